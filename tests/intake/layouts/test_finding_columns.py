"""Tables of one column per finding, in the shapes of CheXpert, MIMIC-CXR, VinDr-CXR and of Spanish exports."""

from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.layouts.finding_columns import FINDING_COLUMNS, finding_columns, present_findings
from cxr_platform.intake.sources import find_candidates
from cxr_platform.intake.vocabulary import COLUMNS, class_of, column_key
from tests.intake.layouts.collections_on_disk import images, plant, verdicts

CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def test_chexperts_table_is_read(tmp_path: Path) -> None:
    rows = {
        "a": "Male,61,Frontal,AP,,,,,,1.0,,-1.0,,0.0,0.0,,,",
        "b": "Female,40,Frontal,PA,1.0,,,,,,,,,,,,,1.0",
        "c": "Male,55,Lateral,,,,,,,,,1.0,,,,,,",
        "d": "Male,55,Frontal,AP,,,1.0,,,,,,,,,,,",
        "e": "Male,55,Frontal,AP,,,,,,1.0,,,,,1.0,,,",
        "f": "Male,55,Frontal,AP,,,,,,,,-1.0,,,0.0,,,",
    }
    lines = [f"CheXpert-v1.0/valid/patient1/study1/{name}.dcm,{row}\n" for name, row in rows.items()]
    folder = plant(
        tmp_path / "d", *(f"patient1/study1/{name}.dcm" for name in rows), valid_csv="".join([CHEXPERT, "\n", *lines])
    )
    found = {file.rpartition("/")[2]: verdict for file, verdict in verdicts(folder).items()}
    assert found == {
        "a.dcm": "Edema",
        "b.dcm": "Normal",
        "c.dcm": "view",
        "d.dcm": "finding-not-studied",
        "e.dcm": "several-findings",
        "f.dcm": "no-finding-given",
    }
    assert find_candidates(folder, SelectionConfig()).ignored_columns == {"d": []}
    image = images(folder)["patient1/study1/b.dcm"]
    assert (image.finding, image.sex, image.age, image.patient) == ("No Finding|Support Devices", "F", 40.0, "patient1")
    assert verdicts(folder, single_finding_only=True)["patient1/study1/b.dcm"] == "further-findings"


def test_rows_of_several_readers_are_put_together(tmp_path: Path) -> None:
    table = (
        "image_id,rad_id,Pleural effusion,Pulmonary fibrosis,No finding\n"
        "a,R1,1,0,0\na,R2,1,0,0\nb,R1,0,1,0\nb,R2,0,0,1\nc,R1,1,1,0\n"
    )
    folder = plant(tmp_path / "d", "a.dicom", "b.dicom", "c.dicom", labels_csv=table)
    assert verdicts(folder) == {"a.dicom": "Effusion", "b.dicom": "conflicting-label", "c.dicom": "several-findings"}
    assert find_candidates(folder, SelectionConfig()).ignored_columns == {"d": ["rad_id"]}


def test_what_one_reader_finds_is_not_normal_by_another(tmp_path: Path) -> None:
    table = "image_id,rad_id,Aortic enlargement,No finding\na,R1,1,0\na,R2,0,1\nb,R1,0,1\nb,R2,0,1\nc,R1,1,1\n"
    folder = plant(tmp_path / "d", "a.dicom", "b.dicom", "c.dicom", labels_csv=table)
    assert verdicts(folder) == {"a.dicom": "further-findings", "b.dicom": "Normal", "c.dicom": "further-findings"}


def test_spanish_columns_are_read(tmp_path: Path) -> None:
    header = "fichero;paciente;Neumonía;Derrame pleural;Cardiomegalia;Sin hallazgos"
    table = f"{header}\na;1;sí;no;no;no\nb;2;0;1,0;0;0\nc;3;;;;1\n"
    folder = plant(tmp_path / "d", "a.dcm", "b.dcm", "c.dcm", tabla_csv=table)
    assert verdicts(folder) == {"a.dcm": "Pneumonia", "b.dcm": "Effusion", "c.dcm": "Normal"}


def test_a_column_of_findings_as_text_comes_first(tmp_path: Path) -> None:
    table = "file,label,Edema,Emphysema\na.dcm,Emphysema,1,0\nb.dcm,,1,0\n"
    folder = plant(tmp_path / "d", "a.dcm", "b.dcm", labels_csv=table)
    assert verdicts(folder) == {"a.dcm": "Emphysema", "b.dcm": "Edema"}


def test_a_table_of_which_the_class_is_given_ignores_no_column_of_a_finding(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "a.png", labels_csv="file,patient,Edema,Ward\na.png,1,0,3\n")
    (folder / "sources.toml").write_text('[sources.d]\npath = "."\nlabel = "Covid19"\n')
    assert verdicts(folder) == {"a.png": "Covid19"}
    assert find_candidates(folder, SelectionConfig()).ignored_columns == {"d": ["Ward"]}


def test_of_several_tables_the_one_with_columns_of_findings_is_proposed(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "a.dcm", a_csv="name,city\n", b_csv="path,Edema\n")
    with pytest.raises(SourceError, match=r'table = "b\.csv"'):
        images(folder)


def test_images_of_other_formats_need_the_layout_only(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "a.jpg", labels_csv="path,Edema,Pneumonia\na.jpg,0,1\n")
    (folder / "sources.toml").write_text('[sources.d]\npath = "."\nlayout = "dicom"\n')
    assert verdicts(folder) == {"a.jpg": "Pneumonia"}


@pytest.mark.parametrize(
    ("value", "present"),
    [
        *((value, True) for value in ("1", "1.0", "1,0", "True", "yes", "Sí", "x", "Positive")),
        *((value, False) for value in ("0", "0.0", "-1", "-1.0", "", "False", "no", "nan", "0.9", "2")),
    ],
)
def test_a_finding_is_present_for_one_and_words_that_say_so(value: str, present: bool) -> None:
    assert present_findings({"edema": value}, {"edema": "Edema"}) == ("Edema" if present else "")


def test_a_finding_is_named_as_in_the_header_if_its_class_is_known_by_that_name() -> None:
    assert finding_columns(["Pleural Effusion", "PleuralEffusion", "rad_id"]) == {"pleuraleffusion": "pleural effusion"}
    assert finding_columns(["Pleural Effusion", "Support Devices"]) == {
        "pleuraleffusion": "Pleural Effusion",
        "supportdevices": "Support Devices",
    }


def test_no_column_of_a_finding_has_another_meaning() -> None:
    others = {name for names in COLUMNS.values() for name in names}
    assert others.isdisjoint(FINDING_COLUMNS)
    assert all(column_key(name) == key for key, name in FINDING_COLUMNS.items())
    assert class_of(FINDING_COLUMNS["neumonia"]) == "Pneumonia"
