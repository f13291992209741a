"""Local features find copies that a hash of the whole image misses: crops, borders, mirrored, inverted, re-encoded."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from cxr_platform.intake import local_features
from cxr_platform.intake.keypoints import Keypoints, find_keypoints
from cxr_platform.intake.local_features import MIN_AGREEMENT, aligned_agreement, nominate
from cxr_platform.intake.phantoms.image import ImageKey, draw_image
from cxr_platform.labels import CLASSES
from tests.recorded_progress import RecordedProgress

IMAGES = 20
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def crop(share: float) -> Change:
    def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = (int(share * side) for side in image.size)
        left, top = (
            int(rng.integers(0, side - part + 1)) for side, part in zip(image.size, (width, height), strict=True)
        )
        return image.crop((left, top, left + width, top + height))

    return cropped


def jpeg(image: Image.Image, _: np.random.Generator) -> Image.Image:
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=60)
        return Image.open(io.BytesIO(file.getvalue())).convert("L")


CHANGES: dict[str, Change] = {
    "crop of 95 %": crop(0.95),
    "crop of 80 %": crop(0.80),
    "crop of 60 %": crop(0.60),
    "white border": lambda image, _: ImageOps.expand(image, (20, 30), fill=255),
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "inverted": lambda image, _: ImageOps.invert(image),
    "mirrored and inverted": lambda image, _: ImageOps.invert(ImageOps.mirror(image)),
    "JPEG of quality 60": jpeg,
    "mirrored crop as JPEG": lambda image, rng: jpeg(ImageOps.mirror(crop(0.75)(image, rng)), rng),
}


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    """Phantoms of different patients, 320 pixels high."""
    keys = [ImageKey(1, CLASSES[number % len(CLASSES)], number, 0) for number in range(IMAGES)]
    return [Image.fromarray((draw_image(key, 320).picture * 255).astype(np.uint8)) for key in keys]


def small(image: Image.Image) -> np.ndarray:
    """As intake letterboxes it, without the borders."""
    reduced = image.copy()
    reduced.thumbnail((200, 200), Image.Resampling.LANCZOS)
    return np.asarray(reduced)


def copies(images: list[np.ndarray]) -> list[tuple[int, int]]:
    nominations = nominate([find_keypoints(image) for image in images])
    agreeing = (n for n in nominations if aligned_agreement(images[n.first], images[n.second], n) >= MIN_AGREEMENT)
    return [(min(n.first, n.second), max(n.first, n.second)) for n in agreeing]


@pytest.mark.parametrize("name", CHANGES)
def test_changed_copies_are_found_and_no_two_patients_are_joined(name: str, originals: list[Image.Image]) -> None:
    rng = np.random.default_rng(3)
    changed = [CHANGES[name](image, rng) for image in originals]
    pairs = copies([small(image) for image in [*originals, *changed]])
    correct = [(first, second) for first, second in pairs if second == first + IMAGES]
    assert len(correct) >= 0.85 * IMAGES
    assert pairs == correct


def test_one_image_and_no_image_have_no_copies(originals: list[Image.Image]) -> None:
    assert nominate([]) == []
    assert nominate([find_keypoints(small(originals[0]))]) == []


def test_blocks_of_images_give_the_nominations_of_one_piece(
    originals: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [find_keypoints(small(image)) for image in [*originals[:6], *map(ImageOps.mirror, originals[:6])]]
    whole = [(n.first, n.second, n.matches, n.variant) for n in nominate(images)]
    monkeypatch.setattr(local_features, "BLOCK", 5)
    progress = RecordedProgress()
    assert [(n.first, n.second, n.matches, n.variant) for n in nominate(images, progress=progress)] == whole
    assert [(first, second) for first, second, *_ in whole] == [(n, n + 6) for n in range(6)]
    assert progress.steps == [("Seeking crops", done, 12) for done in (5, 10, 12)]


def test_a_third_of_the_keypoints_finds_what_all_of_them_find(
    originals: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    changed = [list(CHANGES.values())[n % len(CHANGES)](image, rng) for n, image in enumerate(originals)]
    images = [find_keypoints(small(image)) for image in [*originals, *changed]]
    found = {(n.first, n.second, n.variant) for n in nominate(images)}
    monkeypatch.setattr(local_features, "SAMPLED", 1)
    monkeypatch.setattr(local_features, "SAMPLED_MATCHES", 1)
    assert found == {(n.first, n.second, n.variant) for n in nominate(images)}
    assert len(found) > 0.85 * IMAGES


def test_few_descriptors_are_compared_in_all_dimensions(
    originals: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [find_keypoints(small(image)) for image in [*originals[:6], *map(ImageOps.mirror, originals[:6])]]
    by_components = [(n.first, n.second, n.variant) for n in nominate(images)]
    monkeypatch.setattr(local_features, "FEWEST_FOR_COMPONENTS", 10**9)
    assert [(n.first, n.second, n.variant) for n in nominate(images)] == by_components
    assert len(by_components) == 6


def test_an_even_image_has_no_keypoints_and_no_copies(originals: list[Image.Image]) -> None:
    even = find_keypoints(np.full((200, 150), 90, np.uint8))
    assert len(even.points) == 0
    assert nominate([even, even, *[find_keypoints(small(image)) for image in originals[:3]]]) == []


def test_images_without_any_keypoint_have_no_copies(capfd: pytest.CaptureFixture[str]) -> None:
    even = find_keypoints(np.full((200, 150), 90, np.uint8))
    few = Keypoints(*_few())
    for images in ([even], [even] * 3, [few] * 3, [*[even] * 2000, few]):
        assert nominate(images) == []
    assert "clustering" not in capfd.readouterr().err  # faiss warns of too few descriptors


def test_copies_are_found_among_very_many_images_without_keypoints(originals: list[Image.Image]) -> None:
    even = find_keypoints(np.full((200, 150), 90, np.uint8))
    copied = find_keypoints(small(originals[0]))
    assert [(n.first, n.second) for n in nominate([*[even] * 3000, copied, copied])] == [(3000, 3001)]


def test_a_pair_that_overlaps_too_little_does_not_agree(originals: list[Image.Image]) -> None:
    pixels = small(originals[0])
    (nomination,) = nominate([find_keypoints(pixels), find_keypoints(pixels), Keypoints(*_few())])
    assert aligned_agreement(pixels, pixels, nomination) == pytest.approx(1, abs=1e-3)
    nomination.transform[0, 2] = 190.0
    assert aligned_agreement(pixels, pixels, nomination) == 0


def _few() -> tuple[np.ndarray, np.ndarray, int]:
    return np.zeros((1, 2), np.float32), np.zeros((1, 128), np.uint8), 200
