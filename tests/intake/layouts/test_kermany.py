from pathlib import Path

import pytest

from cxr_platform.intake.candidate import Refusal
from tests.intake.layouts.collections_on_disk import images, plant, verdicts


def test_the_folder_is_the_class_in_every_split(tmp_path: Path) -> None:
    folder = plant(
        tmp_path / "chest_xray",
        "train/PNEUMONIA/person1_bacteria_1.jpeg",
        "test/NORMAL/IM-0001-0001.jpeg",
        "val/PNEUMONIA/person1946_bacteria_4874.jpeg",
        "test/NORMAL/.DS_Store",
        "README.md",
    )
    assert verdicts(folder) == {
        "README.md": "unknown-folder",
        "test/NORMAL/.DS_Store": "Normal",
        "test/NORMAL/IM-0001-0001.jpeg": "Normal",
        "train/PNEUMONIA/person1_bacteria_1.jpeg": "Pneumonia",
        "val/PNEUMONIA/person1946_bacteria_4874.jpeg": "Pneumonia",
    }


@pytest.mark.parametrize(
    ("name", "patient", "finding"),
    [
        ("PNEUMONIA/person23_bacteria_78.jpeg", "person23", "PNEUMONIA bacteria"),
        ("PNEUMONIA/person23_virus_53.jpeg", "person23", "PNEUMONIA virus"),
        ("NORMAL/IM-0115-0001.jpeg", "IM-0115", "NORMAL"),
        ("NORMAL/IM-0001-0001-0002.jpeg", "IM-0001", "NORMAL"),
        ("NORMAL/NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115", "NORMAL"),
        ("PNEUMONIA/BACTERIA-1008087-0001.jpeg", "1008087", "PNEUMONIA bacteria"),
        ("NORMAL/NORMAL-1003233-0001.jpeg", "1003233", "NORMAL"),
        ("NORMAL/image.jpeg", None, "NORMAL"),
    ],
)
def test_patients_are_inferred_from_file_names(tmp_path: Path, name: str, patient: str | None, finding: str) -> None:
    image = images(plant(tmp_path / "chest_xray", f"train/{name}"))[f"train/{name}"]
    assert (image.patient, image.finding, image.view) == (patient, finding, "AP")


def test_a_third_class_is_not_the_kermany_layout(tmp_path: Path) -> None:
    folder = plant(tmp_path / "x", "train/NORMAL/person1_virus_1.png", "train/COVID19/a.png")
    assert verdicts(folder) == {"train/COVID19/a.png": "Covid19", "train/NORMAL/person1_virus_1.png": "Normal"}
    assert images(folder)["train/NORMAL/person1_virus_1.png"].patient is None


def test_the_second_copy_in_the_published_archive_is_left_out(tmp_path: Path) -> None:
    image = "train/NORMAL/IM-0001-0001.jpeg"
    folder = plant(
        tmp_path / "chest_xray", image, f"chest_xray/{image}", f"__MACOSX/{image}", "train/NORMAL/more/a.jpeg"
    )
    refused = {path: candidate.refusal for path, candidate in images(folder).items() if candidate.refusal}
    assert set(refused) == {f"chest_xray/{image}", f"__MACOSX/{image}", "train/NORMAL/more/a.jpeg"}
    assert set(refused.values()) == {Refusal("unknown-folder", "outside train/test/val")}
