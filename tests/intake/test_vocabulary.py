import unicodedata
from typing import Literal

import pytest

from cxr_platform.intake.vocabulary import (
    CLASS_OF,
    COLUMNS,
    NO_FINDING,
    SYNONYMS,
    class_of,
    column_key,
    described_view,
    names_no_patient,
    names_other_finding,
    other_body_part,
    other_view,
    parse_age,
    parse_sex,
    plain,
    view_kind,
)
from cxr_platform.labels import CLASSES


def test_every_class_has_synonyms_in_plain_form() -> None:
    assert tuple(SYNONYMS) == CLASSES
    assert all(plain(name) == name for name in CLASS_OF)
    assert {CLASS_OF[name] for name in NO_FINDING} == {"Normal"}


def test_no_name_is_a_synonym_of_two_classes() -> None:
    assert len(CLASS_OF) == sum(map(len, SYNONYMS.values()))


@pytest.mark.parametrize(
    ("name", "label"), [("COVID-19", "Covid19"), ("Pleural__Effusion ", "Effusion"), ("hernia", None), ("", None)]
)
def test_class_of_ignores_case_and_separators(name: str, label: str | None) -> None:
    assert class_of(name) == label


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("58", 58.0),
        (" 058Y ", 58.0),
        ("006M", 0.5),
        ("6.5", 6.5),
        ("50+", None),
        ("121", None),
        ("045Y", 45.0),
        ("45 years", 45.0),
        ("45 años", 45.0),
        ("6 months", 0.5),
        ("1956-01-01", None),
    ],
)
def test_parse_age_returns_years(text: str, years: float | None) -> None:
    assert parse_age(text) == years


@pytest.mark.parametrize(
    ("text", "sex"),
    [("M", "M"), (" female", "F"), ("O", None), ("", None), ("Mujer", "F"), ("Hombre", "M"), ("varón", "M")],
)
def test_parse_sex_returns_m_or_f(text: str, sex: str | None) -> None:
    assert parse_sex(text) == sex


@pytest.mark.parametrize(
    ("column", "sexes"),
    [
        (("h", "m"), ("M", "F")),
        (("v", "m", ""), ("M", "F", None)),
        (("v", "h"), ("M", "F")),
        (("m", "f", "o"), ("M", "F", None)),
        (("h", "f"), ("M", "F")),
        (("m", "w"), ("M", "F")),
        (("homme", "femme"), ("M", "F")),
    ],
)
def test_a_letter_means_what_the_other_values_of_its_column_show(
    column: tuple[str, ...], sexes: tuple[str | None, ...]
) -> None:
    assert tuple(parse_sex(text.upper(), column) for text in column) == sexes


def test_no_name_of_a_column_states_two_things() -> None:
    names = [name for spellings in COLUMNS.values() for name in spellings]
    assert len(names) == len(set(names))
    assert all(column_key(name) == name for name in names)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("Image Index", "file"),
        ("dicom_id", "file"),
        ("ImageID", "file"),
        ("Finding Labels", "finding"),
        ("class_name", "finding"),
        ("Patient ID", "patient"),
        ("subject_id", "patient"),
        ("AP/PA", "view"),
        ("ViewPosition_DICOM", "view"),
        ("Proyección", "view"),
        ("PatientSex_DICOM", "sex"),
        ("Género", "sex"),
        ("Patient Age", "age"),
        ("Patient Number", "patient"),
        ("patient_no", "patient"),
        ("Nº paciente", "patient"),
        ("N.º de paciente", "patient"),
        ("Nro. paciente", "patient"),
        ("NHC", "patient"),
        ("Patient's Sex", "sex"),
        ("Patient's Age", "age"),
        ("Edad (años)", "age"),
        ("body_parts", "body_part"),
        ("Class Label", "finding"),
        ("Edad", "age"),
    ],
)
def test_columns_of_public_tables_are_understood(name: str, column: str) -> None:
    assert column_key(name) in COLUMNS[column]


def test_a_year_of_birth_is_no_age() -> None:
    assert all(column_key("PatientBirth") not in names for names in COLUMNS.values())


@pytest.mark.parametrize(
    "text", ["PA", "ap", "AP Supine", "AP_ERECT", "POSTERO_ANTERIOR", "antero-posterior", "Frontal", "POSTEROANTERIOR"]
)
def test_frontal_views(text: str) -> None:
    assert view_kind(text) == "frontal"


@pytest.mark.parametrize(
    "text",
    ["LATERAL", "LL", "L", "Lateral", "left lateral", "RL", "COSTAL", "Axial", "oblique", "LORDOTIC", "AP LORDOTIC"],
)
def test_other_views(text: str) -> None:
    assert view_kind(text) == "other"


@pytest.mark.parametrize("text", ["", "chest", "???", "UNK", "papa"])
def test_a_view_that_is_not_understood_is_unknown(text: str) -> None:
    assert view_kind(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "REMOVED", "unknown", "ANON", "Anonymous^Patient", "anonymized", "0", "000", "none", "N/A", "-1", "XXXX"),
        *("#N/A", "n.a.", "n/d", "ND", "unk", "unknown patient", "UNKNOWN^UNKNOWN", "No ID", "No patient", "masked"),
        *(
            "REMOVED BY CTP",
            "ID REMOVED",
            "blank",
            "sin datos",
            "no disponible",
            "no consta",
            "Anónimo",
            "DE-IDENTIFIED",
        ),
    ],
)
def test_values_that_stand_for_no_patient(text: str) -> None:
    assert names_no_patient(text)


@pytest.mark.parametrize(
    "text",
    [
        *("1", "ANON0042", "P01", "Anna", "10", "2020-001", "Anonymous-0001", "Anonymized-0017", "ANONYMOUS0042"),
        *("deidentified-0012", "de", "Unknown 12", "patient 3", "NA12"),
    ],
)
def test_values_that_name_a_patient(text: str) -> None:
    assert not names_no_patient(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("LL", "LL"),
        ("rl", "RL"),
        ("Lateral^Doe", "LATERAL"),
        ("R LATERAL", "LATERAL"),
        ("AP LLD", "LLD"),
        ("left lateral decubitus", "LATERAL"),
        ("latero-lateral", "LATERAL"),
        ("PA", None),
        ("AP Supine", None),
        ("standing", None),
        ("", None),
    ],
)
def test_other_view_returns_the_words_that_are_no_frontal_view(text: str, words: str | None) -> None:
    assert other_view(text) == words


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("LATERAL", "LATERAL"),
        ("Chest lat.", "LAT"),
        ("Tórax perfil", "PERFIL"),
        ("Thorax seitlich", "SEITLICH"),
        ("Chest AP left lateral decubitus", "DECUBITUS"),
        ("W033 Chest oblique", "OBLIQUE"),
        ("view: PA", "PA"),
        ("Thorax a.p. liegend", "AP"),
        ("CHEST PA AND LATERAL", None),
        ("Chest PA/LAT", None),
        ("CHEST 2 VIEWS LATERAL", None),
        ("Chest AP or PA", None),
        ("bilateral infiltrates", None),
        ("Chest frontal", None),
        ("L", None),
        ("", None),
    ],
)
def test_described_view_is_unequivocal(text: str, view: str | None) -> None:
    assert described_view(text) == view


@pytest.mark.parametrize(
    "text", ["CHEST", "THORAX", "Tórax", "RIBCAGE", "CHESTABDOMEN", "PORT CHEST", "LUNG", "", "XYZ"]
)
def test_a_chest_and_what_is_not_understood_is_no_other_body_part(text: str) -> None:
    assert other_body_part(text) is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("HAND", "HAND"),
        ("Left Hand^Doe", "HAND"),
        ("KNEE", "KNEE"),
        ("Rodilla", "KNEE"),
        ("ABDOMENPELVIS", "ABDOMEN"),
        ("TSPINE", "SPINE"),
        ("Thoracic spine", "SPINE"),
        ("SKULL", "HEAD"),
        ("LOWER EXTREMITY", "EXTREMITY"),
        ("hip", "HIP"),
    ],
)
def test_other_parts_of_the_body_are_known_in_several_spellings(text: str, part: str) -> None:
    assert other_body_part(text) == part


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_words_are_understood_in_every_unicode_form(form: Literal["NFC", "NFD"]) -> None:
    def text(written: str) -> str:
        return unicodedata.normalize(form, written)

    assert class_of(text("Neumonía")) == "Pneumonia"
    assert class_of(text("COVID\u201119")) == "Covid19"
    assert parse_sex(text("Varón")) == "M"
    assert parse_age(text("45 años")) == 45.0
    assert other_body_part(text("Muñeca")) == "WRIST"
    assert other_body_part(text("Schädel")) == "HEAD"
    assert other_body_part(text("Tórax")) is None
    assert view_kind(text("Oblícua")) == view_kind(text("latérale")) == "other"
    assert column_key(text("Proyección")) == "proyeccion"


@pytest.mark.parametrize("text", ["SARS", "Streptococcus", "ARDS", "Mass|Nodule", "tuberculosis"])
def test_a_finding_that_is_stated_is_another_one(text: str) -> None:
    assert names_other_finding(text)


@pytest.mark.parametrize(
    "text", ["", "?", "todo", "To Do", "Unknown", "n/a", "not given", "pending", "suspected COVID-19", "SARS-CoV-2"]
)
def test_a_finding_that_may_be_covid19_or_is_not_stated_is_no_other_one(text: str) -> None:
    assert not names_other_finding(text)


@pytest.mark.parametrize(
    "text", ["Pneumonia", "Pneumonia/Bacterial/Streptococcus", "No Finding", "Mass|Edema", "COPD; mass"]
)
def test_a_finding_that_names_one_of_the_seven_classes_is_no_other_one(text: str) -> None:
    assert not names_other_finding(text)
