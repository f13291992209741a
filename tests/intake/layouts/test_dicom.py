from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.sources import find_candidates
from cxr_platform.validation import tomllib
from tests.intake.layouts.collections_on_disk import images, plant, verdicts


@pytest.mark.parametrize("header", ["filename,label", "File,Finding", "path,label"])
def test_a_csv_names_file_and_label(tmp_path: Path, header: str) -> None:
    table = f"{header}\na.dcm,COVID-19\nsub/b.dcm,pleural effusion\nc.dcm,Hernia\nd.dcm,\ngone.dcm,Edema\n"
    folder = plant(tmp_path / "d", "a.dcm", "sub/b.dcm", "c.dcm", "d.dcm", "README.md", labels_csv=table)
    assert verdicts(folder) == {
        "README.md": "not-listed",
        "a.dcm": "Covid19",
        "c.dcm": "finding-not-studied",
        "d.dcm": "no-finding-given",
        "sub/b.dcm": "Effusion",
    }
    inventory = find_candidates(folder, SelectionConfig())
    assert (inventory.tables, inventory.missing_files) == (["d/labels.csv"], {"d": 1})


def test_patient_view_sex_and_age_are_optional_columns(tmp_path: Path) -> None:
    table = "filename,label,patient,view,sex,age\na.dcm,edema,P1,PA,female,058Y\nb.dcm,edema,P1,LL,,\n"
    folder = plant(tmp_path / "d", "a.dcm", "b.dcm", labels_csv=table)
    image = images(folder)["a.dcm"]
    assert (image.patient, image.view, image.sex, image.age) == ("P1", "PA", "F", 58.0)
    assert verdicts(folder)["b.dcm"] == "view"


def test_the_body_part_is_an_optional_column(tmp_path: Path) -> None:
    table = "filename,label,BodyPartExamined\na.dcm,edema,CHEST\nb.dcm,edema,HAND\nc.dcm,edema,\n"
    folder = plant(tmp_path / "d", "a.dcm", "b.dcm", "c.dcm", labels_csv=table)
    assert verdicts(folder) == {"a.dcm": "Edema", "b.dcm": "body-part", "c.dcm": "Edema"}


def test_several_findings_in_a_row_are_judged_as_in_nih(tmp_path: Path) -> None:
    folder = plant(
        tmp_path / "d", "a.dcm", "b.dcm", labels_csv='filename,label\na.dcm,"Edema, Mass"\nb.dcm,Edema|COPD\n'
    )
    assert verdicts(folder) == {"a.dcm": "Edema", "b.dcm": "several-findings"}
    assert verdicts(folder, single_finding_only=True)["a.dcm"] == "further-findings"


def test_no_finding_is_normal_unless_switched_off(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "a.dcm", "b.dcm", labels_csv="filename,label\na.dcm,No finding\nb.dcm,Normal\n")
    assert verdicts(folder) == {"a.dcm": "Normal", "b.dcm": "Normal"}
    assert verdicts(folder, no_finding_is_normal=False) == {"a.dcm": "finding-not-studied", "b.dcm": "Normal"}


def test_a_file_name_matches_in_a_subfolder_unless_two_files_have_it(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "p1/a.dcm", labels_csv="filename,label\na.dcm,Edema\n")
    assert verdicts(folder) == {"p1/a.dcm": "Edema"}
    plant(folder, "p2/a.dcm")
    with pytest.raises(SourceError, match=r"Received: a\.dcm, which 2 files are called"):
        images(folder)


def test_windows_paths_match_their_files(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "p1/a.dcm", labels_csv="path,label\n.\\p1\\a.dcm,Edema\n")
    assert verdicts(folder) == {"p1/a.dcm": "Edema"}


def test_without_a_csv_the_folders_are_the_classes(tmp_path: Path) -> None:
    assert verdicts(plant(tmp_path / "d", "effusion/a.dcm")) == {"effusion/a.dcm": "Effusion"}


def test_two_tables_are_an_error_that_shows_how_to_name_one(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "a.dcm", one_csv="filename,label\n", two_csv="filename,label\n")
    with pytest.raises(SourceError, match=r"Received: one\.csv, two\.csv\. Name the one") as caught:
        images(folder)
    toml = str(caught.value).partition("data folder:\n")[2]
    assert tomllib.loads(toml) == {"sources": {"d": {"path": str(folder), "table": "one.csv"}}}


def test_a_csv_without_labels_is_an_error(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "a.dcm", labels_csv="filename,patient\na.dcm,1\n")
    with pytest.raises(SourceError, match=r"labels\.csv: expected the column label or finding"):
        images(folder)


def test_without_a_column_of_patients_the_path_names_the_patient(tmp_path: Path) -> None:
    files = (
        "train/patient00001/study1/view1.dcm",
        "train/patient00001/study2/view1.dcm",
        "files/p10/p10000032/s50414267/a.dcm",
        "sub-S03044/ses-E1/mod-rx/b.dcm",
        "others/c.dcm",
    )
    rows = "".join(f"{file},Edema\n" for file in files)
    folder = plant(tmp_path / "d", *files, labels_csv=f"Path,label\n{rows}")
    patients = {file: image.patient for file, image in images(folder).items()}
    assert [patients[file] for file in files] == ["patient00001", "patient00001", "p10000032", "sub-S03044", None]


def test_a_table_of_bare_names_leaves_the_patient_to_the_path_of_the_file(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "sub-S01/ses-E1/a.dcm", "sub-S02/b.dcm", labels_csv="file,label\na,Edema\nb,Edema\n")
    assert [image.patient for path, image in images(folder).items()] == ["sub-S01", "sub-S02"]


def of_one_class(folder: Path, *files: str, **tables: str) -> Path:
    plant(folder, *files, **tables)
    (folder / "sources.toml").write_text('[sources.d]\npath = "."\nlabel = "Covid19"\n')
    return folder


@pytest.mark.parametrize("names", [("sub-S01", "sub-S02"), ("P1", "P2"), ("sub-S01", "other")])
def test_files_of_one_class_have_the_patients_of_their_folders(tmp_path: Path, names: tuple[str, str]) -> None:
    folder = of_one_class(tmp_path / "d", *(f"{name}/ses-E1/x.png" for name in names))
    patients = [image.patient for image in images(folder).values()]
    assert set(patients) == {name if name != "other" else None for name in names}


def test_of_several_tables_beside_a_label_the_one_with_patients_is_read(tmp_path: Path) -> None:
    patients = "file,patient\na.png,P7\n"
    folder = of_one_class(tmp_path / "d", "a.png", a_prices_csv="city,price\n", b_patients_csv=patients)
    assert images(folder)["a.png"].patient == "P7"
    plant(folder, c_csv=patients)
    with pytest.raises(SourceError, match=r'b_patients\.csv, c\.csv\. Name the one .*\ntable = "b_patients\.csv"'):
        images(folder)


@pytest.mark.parametrize("findings", ["label\na.png,P7,Edema\n", "Edema\na.png,P7,1\n"])
def test_findings_that_contradict_the_label_are_named_as_not_read(tmp_path: Path, findings: str) -> None:
    folder = of_one_class(tmp_path / "d", "a.png", t_csv=f"file,patient,{findings}")
    assert verdicts(folder) == {"a.png": "Covid19"}
    column = findings.partition("\n")[0]
    assert find_candidates(folder, SelectionConfig()).ignored_columns == {"d": [column]}
