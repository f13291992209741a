from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.layouts.phantoms import IMAGES_FOLDER
from cxr_platform.intake.sources import find_candidates
from tests.intake.layouts.collections_on_disk import images, plant, verdicts

TABLE = (
    "filename,patient_id,label,view,sex,age\n"
    "0001.png,P1,Covid19,PA,F,61\n0002.dcm,P1,Covid19,AP,F,61\n0003.png,P2,Normal,L,M,40\n"
)


def phantoms(folder: Path) -> Path:
    names = (
        f"{IMAGES_FOLDER}/0001.png",
        f"{IMAGES_FOLDER}/0002.dcm",
        f"{IMAGES_FOLDER}/0003.png",
        f"{IMAGES_FOLDER}/notes.txt",
    )
    return plant(folder, *names, PHANTOMS_toml="seed = 1\n", images_csv=TABLE)


def test_the_table_lists_the_images_and_the_source_is_synthetic(tmp_path: Path) -> None:
    folder = phantoms(tmp_path / "phantoms")
    assert verdicts(folder) == {
        f"{IMAGES_FOLDER}/0001.png": "Covid19",
        f"{IMAGES_FOLDER}/0002.dcm": "Covid19",
        f"{IMAGES_FOLDER}/0003.png": "view",
        f"{IMAGES_FOLDER}/notes.txt": "not-listed",
    }
    inventory = find_candidates(folder, SelectionConfig())
    assert inventory.synthetic_sources == {"phantoms"}
    assert inventory.tables == ["phantoms/PHANTOMS.toml", "phantoms/images.csv"]
    image = images(folder)[f"{IMAGES_FOLDER}/0001.png"]
    assert (image.patient, image.view, image.sex, image.age) == ("P1", "PA", "F", 61.0)


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    folder = phantoms(tmp_path / "phantoms")
    (folder / "images.csv").unlink()
    with pytest.raises(SourceError, match=r"Expected a readable CSV at .*images\.csv"):
        images(folder)
