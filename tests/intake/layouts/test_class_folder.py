from pathlib import Path

import pytest

from tests.intake.layouts.collections_on_disk import images, plant, verdicts


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("covid", "Covid19"),
        ("COVID-19", "Covid19"),
        ("covid19", "Covid19"),
        ("SARS-CoV-2", "Covid19"),
        ("COPD", "Emphysema"),
        ("pleural_effusion", "Effusion"),
        ("Pulmonary Edema", "Edema"),
        ("oedema", "Edema"),
        ("No finding", "Normal"),
        ("Viral Pneumonia", "Pneumonia"),
        ("fibrosis", "Fibrosis"),
        ("Neumoni\u0301a", "Pneumonia"),
    ],
)
def test_spellings_of_folder_names_map_to_classes(tmp_path: Path, folder: str, label: str) -> None:
    assert verdicts(plant(tmp_path / "data", f"{folder}/a.png")) == {f"{folder}/a.png": label}


def test_class_folders_may_be_at_any_depth(tmp_path: Path) -> None:
    folder = plant(
        tmp_path / "p", "dataset/train_test/effusion/a.png", "dataset/train_test/normal/b.png", "normal/7/c.png"
    )
    assert list(verdicts(folder).values()) == ["Effusion", "Normal", "Normal"]
    assert images(folder)["normal/7/c.png"].finding == "normal"


def test_the_innermost_class_folder_is_the_class(tmp_path: Path) -> None:
    assert verdicts(plant(tmp_path / "p", "normal/covid/a.png")) == {"normal/covid/a.png": "Covid19"}


def test_a_folder_without_a_known_name_is_refused(tmp_path: Path) -> None:
    folder = plant(tmp_path / "p", "covid/a.png", "tuberculosis/b.png", "README.md", "covid/masks/a.png")
    assert verdicts(folder) == {
        "README.md": "unknown-folder",
        "covid/a.png": "Covid19",
        "covid/masks/a.png": "unknown-folder",
        "tuberculosis/b.png": "unknown-folder",
    }


def test_hidden_files_in_a_class_folder_are_candidates(tmp_path: Path) -> None:
    image = images(plant(tmp_path / "p", "covid/a.png", "covid/.DS_Store"))["covid/.DS_Store"]
    assert (image.label, image.refusal) == ("Covid19", None)


def test_a_collection_named_after_a_class_has_that_class(tmp_path: Path) -> None:
    folder = plant(tmp_path / "covid-19", "a.png", "7/b.png", "masks/a.png")
    assert verdicts(folder) == {"7/b.png": "Covid19", "a.png": "Covid19", "masks/a.png": "unknown-folder"}
    assert verdicts(plant(tmp_path / "pneumonia", "normal/a.png", "b.png")) == {
        "b.png": "unknown-folder",
        "normal/a.png": "Normal",
    }


def test_folders_below_a_class_folder_are_patients(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", *(f"Covid19/P0{i}/s1/{j}.png" for i in (1, 2) for j in (1, 2)), "Normal/1.png")
    patients = {path: image.patient for path, image in images(folder).items()}
    assert patients["Covid19/P01/s1/1.png"] == patients["Covid19/P01/s1/2.png"] == "P01"
    assert patients["Covid19/P02/s1/1.png"] == "P02"
    assert patients["Normal/1.png"] is None


def test_a_folder_that_is_a_class_holds_patients(tmp_path: Path) -> None:
    folder = plant(tmp_path / "Covid19", "sub-S01/a.png", "sub-S02/b.png")
    assert [image.patient for image in images(folder).values()] == ["sub-S01", "sub-S02"]


@pytest.mark.parametrize(
    "folders",
    [
        *(("batch1", "batch2"), ("images_001", "images_002"), ("2019", "2020"), ("P01",), ("left", "right")),
        *(
            ("2020-03", "2020-04"),
            ("2020-03-15", "20200316"),
            ("v1", "v2.1"),
            ("PA_1", "PA_2"),
            ("fold1of2", "fold2of2"),
        ),
        *(
            ("224x224", "512x512"),
            ("study1", "study2"),
            ("Part 1", "Part 2"),
            ("train2", "test2"),
            ("a", "b", "c", "d1", "d2"),
        ),
    ],
)
def test_folders_that_do_not_look_like_patients_are_none(tmp_path: Path, folders: tuple[str, ...]) -> None:
    folder = plant(tmp_path / "d", *(f"Covid19/{name}/{i}.png" for name in folders for i in (1, 2)))
    assert {image.patient for image in images(folder).values()} == {None}


def test_folders_with_many_images_are_no_patients(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", *(f"Covid19/{name}/{i}.png" for name in ("a1", "a2") for i in range(21)))
    assert {image.patient for image in images(folder).values()} == {None}


@pytest.mark.parametrize(
    "folders",
    [
        *(("patient01", "patient02"), ("Paciente 1", "Paciente 2"), ("pat_001", "pat_002"), ("2001345", "2001346")),
        *(("participant-1", "participant-2"), ("V001", "V002"), ("sub-S1", "sub-S2"), ("case 2019", "case 2020")),
        *(("2020-001", "2020-002"), ("1", "2"), ("id_3", "id_4"), ("anon0017", "anon0018")),
    ],
)
def test_folders_named_after_patients_are_patients(tmp_path: Path, folders: tuple[str, ...]) -> None:
    folder = plant(tmp_path / "d", *(f"Covid19/{name}/{i}.png" for name in folders for i in (1, 2)))
    assert {image.patient for image in images(folder).values()} == set(folders)


@pytest.mark.parametrize("portion", ["train", "fold_1", "images_001", "2020", "train/fold 2"])
def test_patients_may_lie_in_folders_of_portions(tmp_path: Path, portion: str) -> None:
    files = {f"Covid19/{portion}/P1/s1/1.png": "P1", f"Covid19/{portion}/P2/1.png": "P2", "Covid19/test/P1/1.png": "P1"}
    folder = plant(tmp_path / "d", *files)
    assert {path: image.patient for path, image in images(folder).items()} == files


def test_a_single_patient_of_a_class_counts_beside_those_of_another(tmp_path: Path) -> None:
    folder = plant(tmp_path / "d", "Covid19/P1/1.png", "Normal/P1/1.png", "Normal/P2/1.png")
    assert [image.patient for image in images(folder).values()] == ["P1", "P1", "P2"]


def test_a_folder_of_another_kind_does_not_hide_the_patients_beside_it(tmp_path: Path) -> None:
    folder = plant(
        tmp_path / "d", "Covid19/P1/1.png", "Covid19/P2/1.png", "Covid19/views1/1.png", "Covid19/batch1/1.png"
    )
    assert {path.split("/")[1]: image.patient for path, image in images(folder).items()} == {
        "P1": "P1",
        "P2": "P2",
        "views1": None,
        "batch1": None,
    }
