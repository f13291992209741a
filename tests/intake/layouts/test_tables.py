"""Tables as they are published, with drawn file names."""

import unicodedata
from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.sources import Inventory, find_candidates
from cxr_platform.validation import tomllib
from tests.intake.layouts.collections_on_disk import images, plant, verdicts


def read(folder: Path) -> Inventory:
    return find_candidates(folder, SelectionConfig())


def table(folder: Path, text: str, *files: str) -> Path:
    """A collection of `files` with the table labels.csv."""
    return plant(folder, *files, "x.dcm", labels_csv=text)


def test_columns_with_the_names_of_nih_are_read(tmp_path: Path) -> None:
    header = "filename,label,Patient ID,View Position,Patient Age,Patient Gender"
    text = f"{header}\na.png,Edema,7,PA,040Y,F\nb.png,Edema,7,LATERAL,,\n"
    folder = table(tmp_path / "d", text, "a.png", "b.png")
    first = images(folder)["a.png"]
    assert (first.patient, first.view, first.age, first.sex) == ("7", "PA", 40.0, "F")
    assert verdicts(folder)["b.png"] == "view"


@pytest.mark.parametrize(
    "text",
    [
        "dicom_id,subject_id,ViewPosition,gender,anchor_age,label\na,7,AP,M,61,Edema\n",
        "ImageID,PatientID,Projection,PatientSex_DICOM,Age,Labels\na.png,7,AP,M,61,['edema']\n",
        "Path,Patient,AP/PA,Sex,Age,Finding\nset/d/a.png,7,AP,Male,61,Edema\n",
        "archivo;paciente;proyección;sexo;edad;hallazgo\na.png;7;AP;Hombre;61 años;Edema\n",
    ],
)
def test_columns_of_other_collections_are_read(tmp_path: Path, text: str) -> None:
    image = images(table(tmp_path / "d", text, "a.png"))["a.png"]
    stated = (image.label, image.patient, image.view, image.sex, image.age, image.refusal)
    assert stated == ("Edema", "7", "AP", "M", 61.0, None)


def test_a_view_that_is_not_understood_is_kept_and_the_image_taken(tmp_path: Path) -> None:
    image = images(table(tmp_path / "d", "file,label,view\na.png,Edema,standing\n", "a.png"))["a.png"]
    assert (image.view, image.refusal) == ("standing", None)


def test_columns_that_are_not_understood_are_named(tmp_path: Path) -> None:
    folder = table(tmp_path / "d", "file,label,Krankennummer,x\na.png,Edema,1,2\n", "a.png")
    assert read(folder).ignored_columns == {"d": ["Krankennummer", "x"]}


def test_rows_of_one_finding_each_are_one_image(tmp_path: Path) -> None:
    rows = [
        "a.png,Edema,",
        "a.png,Mass,P1",
        "b.png,Edema,",
        "b.png,COPD,",
        "c.png,Normal,",
        "c.png,Normal,",
        "d.png,,",
        "d.png,Edema,",
    ]
    folder = table(tmp_path / "d", "\n".join(["file,finding,patient", *rows]), "a.png", "b.png", "c.png", "d.png")
    stated = verdicts(folder)
    del stated["x.dcm"]
    assert stated == {"a.png": "Edema", "b.png": "several-findings", "c.png": "Normal", "d.png": "Edema"}
    image = images(folder)["a.png"]
    assert (image.finding, image.patient) == ("Edema, Mass", "P1")
    assert verdicts(folder, single_finding_only=True)["a.png"] == "further-findings"


def test_names_match_despite_extension_case_and_unicode_form(tmp_path: Path) -> None:
    composed = "Lorent\u00e9-1.png"
    text = f"file,label\nRA-1,Edema\nB.jpg,Edema\n{unicodedata.normalize('NFD', composed)},Edema\na.png,Edema\n"
    folder = table(tmp_path / "d", text, "images/RA-1.jpg", "images/B.JPG", f"images/{composed}", "images/a.png")
    assert [verdict for path, verdict in verdicts(folder).items() if path != "x.dcm"] == ["Edema"] * 4
    assert read(folder).missing_files == {"d": 0}


def test_a_name_that_several_files_nearly_have_is_an_error(tmp_path: Path) -> None:
    folder = table(tmp_path / "d", "file,label\na,Edema\n", "a.png", "a.jpg")
    with pytest.raises(SourceError, match=r"Received: a, which 2 files are called: a\.jpg, a\.png"):
        read(folder)


def test_two_names_that_are_nearly_one_file_are_an_error(tmp_path: Path) -> None:
    folder = table(tmp_path / "d", "file,label\nA.jpg,Edema\na,Normal\n", "a.png")
    with pytest.raises(SourceError, match=r"A\.jpg and a, which all may name a\.png"):
        read(folder)


def test_the_reason_names_a_near_miss(tmp_path: Path) -> None:
    text = "file,label\ngood.png,Edema\npatient-0012.png,Edema\ntrain/c.png,Edema\n"
    stated = images(table(tmp_path / "d", text, "good.png", "patient_012.png", "test/c.png"))
    refusals = {path: str(image.refusal.detail) for path, image in stated.items() if image.refusal}
    assert refusals["patient_012.png"].endswith("nearly: patient-0012.png")
    assert refusals["test/c.png"].endswith("nearly: train/c.png")
    assert "nearly" not in refusals["x.dcm"]


def test_values_that_stand_for_no_patient_are_none(tmp_path: Path) -> None:
    folder = table(tmp_path / "d", "file,label,patient\na.png,Edema,REMOVED\nb.png,Edema,1\n", "a.png", "b.png")
    assert [image.patient for path, image in images(folder).items() if path != "x.dcm"] == [None, "1"]


@pytest.mark.parametrize("named", [False, True])
def test_a_table_without_findings_stands_beside_the_label(tmp_path: Path, named: bool) -> None:
    files = ("repo/png/a0.png", "repo/png/a1.png", "repo/png/unlisted.png")
    plant(tmp_path, *files)
    (tmp_path / "repo" / "data.csv").write_text("patient_id,image_id,projection\np1,a0,ap\np1,a1,lateral\n")
    toml = '[sources.h]\npath = "repo"\nlabel = "Covid19"\n' + ('table = "data.csv"\n' if named else "")
    (tmp_path / "sources.toml").write_text(toml)
    stated = [(c.source_path, c.label, c.patient, c.refusal and c.refusal.reason) for c in read(tmp_path).candidates]
    assert stated == [
        ("h/png/a0.png", "Covid19", "p1", None),
        ("h/png/a1.png", "Covid19", "p1", "view"),
        ("h/png/unlisted.png", "Covid19", None, None),
    ]
    assert read(tmp_path).tables == ["h/data.csv"]


def test_rsna_files_are_named_after_the_patient(tmp_path: Path) -> None:
    folder = plant(
        tmp_path / "rsna", "stage_2_train_images/abc.dcm", info_csv="patientId,class\nabc,Normal\nabc,Normal\n"
    )
    image = images(folder)["stage_2_train_images/abc.dcm"]
    assert (image.label, image.patient) == ("Normal", "abc")


def test_files_called_dicom_are_dicom(tmp_path: Path) -> None:
    assert verdicts(plant(tmp_path / "v", "abc.dicom", labels_csv="file,label\nabc,Normal\n")) == {
        "abc.dicom": "Normal"
    }


def test_the_lines_that_an_error_advises_make_the_collection_readable(tmp_path: Path) -> None:
    folder = plant(tmp_path / "png", "images/1.png", train_csv="image,label\n1.png,normal\n")
    with pytest.raises(SourceError, match="a column for the file") as caught:
        read(folder)
    lines = str(caught.value).partition("sources.toml:\n")[2]
    (folder / "sources.toml").write_text(lines)
    assert tomllib.loads(lines)
    assert [(c.source_path, c.label) for c in read(folder).candidates] == [("png/images/1.png", "Normal")]


def test_the_advised_table_is_the_one_with_findings(tmp_path: Path) -> None:
    folder = plant(
        tmp_path / 'r "1"',
        "images/abc.dcm",
        a_boxes_csv="patientId,x,y,Target\nabc,,,0\n",
        detailed_csv="patientId,class\nabc,Normal\n",
    )
    with pytest.raises(SourceError) as caught:
        read(folder)
    (folder / "sources.toml").write_text(str(caught.value).partition("data folder:\n")[2])
    assert "Normal" in [candidate.label for candidate in read(folder).candidates]


def test_the_first_value_that_is_understood_counts(tmp_path: Path) -> None:
    header = "file,label,Projection,ViewPosition_DICOM,patient,subject,sex,gender,age,edad"
    rows = "a,Edema,UNK,LATERAL,unknown,S1,?,F,?,7\nb,Edema,UNK,standing,P1,S1,M,F,5,7\n"
    stated = images(table(tmp_path / "d", f"{header}\n{rows}", "a.png", "b.png"))
    a, b = stated["a.png"], stated["b.png"]
    assert (a.view, a.patient, a.sex, a.age, a.refusal and a.refusal.reason) == ("LATERAL", "S1", "F", 7.0, "view")
    assert (b.view, b.patient, b.sex, b.age, b.refusal) == ("UNK", "P1", "M", 5.0, None)


def test_of_several_rows_the_first_view_that_is_understood_counts(tmp_path: Path) -> None:
    folder = table(tmp_path / "d", "file,label,view,sex\na,Edema,UNK,?\na,Edema,AP,F\n", "a.png")
    assert (images(folder)["a.png"].view, images(folder)["a.png"].sex) == ("AP", "F")


def test_m_is_a_woman_in_a_spanish_column_of_sexes(tmp_path: Path) -> None:
    text = "file,label,sexo\na,Edema,M\nb,Edema,H\n"
    folder = table(tmp_path / "d", text, "a.png", "b.png")
    assert [image.sex for path, image in images(folder).items() if path != "x.dcm"] == ["F", "M"]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ("a,Edema,PA,CHEST\na,Edema,LATERAL,CHEST\n", "view"),
        ("a,Edema,,\na,Mass,LATERAL,\n", "view"),
        ("a,Edema,,\na,,,HAND\n", "body-part"),
        ("a,Edema,,\na,Effusion,,\n", "several-findings"),
        ("a,Edema,,\na,Normal,,\n", "conflicting-label"),
    ],
)
def test_a_refusal_in_any_row_holds(tmp_path: Path, rows: str, verdict: str) -> None:
    folder = table(tmp_path / "d", f"file,label,view,body_part\n{rows}", "a.png")
    assert verdicts(folder)["a.png"] == verdict
