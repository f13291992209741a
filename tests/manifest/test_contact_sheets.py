from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_platform.intake.candidate import Refusal
from cxr_platform.manifest import contact_sheets
from cxr_platform.manifest.cache import DecodedCache, PixelReader
from cxr_platform.manifest.contact_sheets import CELL, COLUMNS, HEADER, THUMBNAIL, write_contact_sheets
from cxr_platform.manifest.records import ExcludedFile
from tests.manifest.builders import image, refused, store


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path / "cache", "key")


def sheet(folder: Path, reason: str) -> np.ndarray:
    return np.asarray(Image.open(folder / f"{reason}.png"))


def cell(picture: np.ndarray, position: int) -> np.ndarray:
    """The thumbnail at a position."""
    top, left = HEADER + position // COLUMNS * CELL[1], position % COLUMNS * CELL[0] + 4
    return picture[top : top + THUMBNAIL, left : left + THUMBNAIL]


def test_there_is_one_sheet_per_reason_with_its_images(cache: DecodedCache, tmp_path: Path) -> None:
    images = {f"s/{i}.png": image(i) for i in range(2)}
    seen = [ExcludedFile(r.key.source_path, Refusal("partial", "aspect 3"), r) for r in store(cache, images)]
    unseen = ExcludedFile("s/text.png", Refusal("not-an-image", "text"), refused("s/text.png"))
    write_contact_sheets(tmp_path / "sheets", [*seen[::-1], unseen], PixelReader(cache, 200))
    assert {file.name for file in (tmp_path / "sheets").iterdir()} == {"partial.png", "not-an-image.png"}
    expected = Image.fromarray(image(1)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    assert np.array_equal(cell(sheet(tmp_path / "sheets", "partial"), 1), np.asarray(expected))


def test_a_file_without_pixels_has_a_grey_thumbnail(cache: DecodedCache, tmp_path: Path) -> None:
    items = [
        ExcludedFile("s/never-opened.png", Refusal("not-listed", "no row"), None),
        ExcludedFile("s/text.png", Refusal("not-listed", "no row"), refused("s/text.png")),
    ]
    write_contact_sheets(tmp_path / "sheets", items, PixelReader(cache, 200))
    picture = sheet(tmp_path / "sheets", "not-listed")
    for position in range(2):
        assert np.bincount(cell(picture, position).ravel()).argmax() == 224


def test_a_sheet_ends_after_its_last_image_and_shows_the_first_ones_only(
    cache: DecodedCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheets, "IMAGES_PER_SHEET", 12)
    items = [ExcludedFile(f"s/{i:03}.png", Refusal("not-drawn", "5 of Normal were drawn"), None) for i in range(50)]
    write_contact_sheets(tmp_path / "sheets", items, PixelReader(cache, 200))
    assert sheet(tmp_path / "sheets", "not-drawn").shape == (HEADER + 2 * CELL[1], COLUMNS * CELL[0])
    assert contact_sheets._header("not-drawn", 12, 50).endswith("Images: first 12 of 50.\n")


def test_the_header_says_how_to_overrule_a_reason_that_can_be_overruled(cache: DecodedCache) -> None:
    assert "allow =" in contact_sheets._header("low-contrast", 1, 1)
    assert "allow =" not in contact_sheets._header("modality", 1, 1)


def test_a_long_path_keeps_its_end_and_a_long_sentence_its_start() -> None:
    path, sentence = contact_sheets._wrap("a" * 90 + "end.png", 3, "end"), contact_sheets._wrap("b" * 90, 3, "start")
    assert (len(path), path[-1][-7:]) == (3, "end.png")
    assert (len(sentence), sentence[-1][-1]) == (3, "…")
