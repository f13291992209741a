"""Collections of images of none of the seven classes."""

from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.sources import find_candidates
from tests.intake.layouts.collections_on_disk import plant
from tests.intake.test_sources import COHEN


def candidates(folder: Path, **keys: str) -> dict[str, Candidate]:
    """Path in the outside source `tb`, which is `folder`/tb, → candidate."""
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    plant(folder, "classes/covid/a.png")
    plant(
        folder,
        sources_toml=f'[sources.tb]\npath = "tb"\noutside = true\n{lines}[sources.own]\npath = "classes"\n',
    )
    inventory = find_candidates(folder, SelectionConfig())
    return {c.source_path.partition("/")[2]: c for c in inventory.candidates if c.source == "tb"}


def stated(folder: Path, **keys: str) -> dict[str, str]:
    """Path in the source → its finding, or the reason for which it is refused."""
    return {path: c.refusal.reason if c.refusal else c.finding for path, c in candidates(folder, **keys).items()}


def test_a_plain_folder_of_images_needs_no_labels(tmp_path: Path) -> None:
    plant(tmp_path / "tb", "1.png", "more/2.jpg")
    found = candidates(tmp_path)
    assert {path: (c.role, c.label, c.finding, c.refusal) for path, c in found.items()} == {
        "1.png": ("outside", None, "tb", None),
        "more/2.jpg": ("outside", None, "more", None),
    }


def test_folders_state_findings_and_patients_but_portions_and_masks_do_not(tmp_path: Path) -> None:
    plant(tmp_path / "tb", "train/Tuberculosis/P01/1.png", "train/Tuberculosis/P02/2.png", "train/masks/1.png")
    found = candidates(tmp_path)
    assert [(c.finding, c.patient) for c in found.values() if not c.refusal] == [
        ("Tuberculosis", "P01"),
        ("Tuberculosis", "P02"),
    ]
    assert found["train/masks/1.png"].refusal.reason == "unknown-folder"  # type: ignore[union-attr]


@pytest.mark.parametrize("folder", ["normal", "train/COVID-19", "Pneumonia/P01"])
def test_images_of_the_seven_classes_are_refused(tmp_path: Path, folder: str) -> None:
    plant(tmp_path / "tb", "tuberculosis/1.png", f"{folder}/2.png")
    assert stated(tmp_path) == {"tuberculosis/1.png": "tuberculosis", f"{folder}/2.png": "finding-studied"}


def test_a_table_beside_the_images_states_patients_views_and_findings(tmp_path: Path) -> None:
    table = "filename,patient,view,finding\n1.png,p1,PA,PTB\n2.png,p2,L,PTB\n3.png,p3,PA,normal\n"
    plant(tmp_path / "tb", "1.png", "2.png", "3.png", "4.png", patients_csv=table)
    found = candidates(tmp_path)
    assert (found["1.png"].patient, found["1.png"].view) == ("p1", "PA")
    assert stated(tmp_path) == {"1.png": "PTB", "2.png": "view", "3.png": "finding-studied", "4.png": "tb"}


def test_a_published_table_is_read_and_its_images_of_the_classes_are_refused(tmp_path: Path) -> None:
    rows = "2,Tuberculosis,PA,X-ray,b.jpg\n3,todo,PA,X-ray,c.jpg\n4,possible COVID19,PA,X-ray,d.jpg\n"
    plant(tmp_path / "tb", *(f"images/{name}.jpg" for name in "abcde"), metadata_csv=COHEN + rows)
    assert stated(tmp_path) == {
        "images/a.jpg": "finding-studied",
        "images/b.jpg": "Tuberculosis",
        "images/c.jpg": "todo",
        "images/d.jpg": "finding-studied",
        "images/e.jpg": "not-listed",
    }


def test_a_profile_that_does_not_take_a_class_from_a_collection_makes_it_no_outside_image(tmp_path: Path) -> None:
    plant(tmp_path / "tb", "images/a.jpg", "images/b.jpg", metadata_csv=COHEN + "2,Pneumonia,PA,X-ray,b.jpg\n")
    with pytest.raises(SourceError, match="1 with finding COVID-19, 1 with finding Pneumonia"):
        stated(tmp_path)


def test_a_source_without_any_image_outside_the_classes_is_an_error(tmp_path: Path) -> None:
    plant(tmp_path / "tb", "normal/1.png", "normal/2.png")
    with pytest.raises(SourceError, match=r"outside source tb\. Received: 2 with finding normal"):
        candidates(tmp_path)


def test_a_public_collection_of_one_class_is_no_outside_source(tmp_path: Path) -> None:
    plant(tmp_path / "tb", "Datasets/Chest_x-ray/1.jpg", "Datasets/Chest_x-ray/1@.png")
    with pytest.raises(SourceError, match="1 with finding Normal"):
        candidates(tmp_path)


def test_a_table_that_is_named_must_have_the_images(tmp_path: Path) -> None:
    plant(tmp_path / "tb", "1.png", list_csv="filename,patient\n9.png,p1\n")
    with pytest.raises(SourceError, match=r"list\.csv: expected its images"):
        candidates(tmp_path, table="list.csv")
