"""Masks of the lung segmenter: on phantoms, on images without lungs, and its file of weights."""

import io
from collections.abc import Callable

import numpy as np
import pytest

from cxr_platform.errors import WeightsError
from cxr_platform.intake.phantoms.image import Drawing, ImageKey, draw_image
from cxr_platform.models.lung_segmenter import (
    PARTS,
    Part,
    build_segmenter,
    load_segmenter,
    lung_masks,
    packaged_segmenter,
    read_segmenter,
    segmenter_bytes,
    two_lungs,
)

SEED = 90_000
"""Of phantoms that the weights in the package were not trained on."""


def drawn(patient: int, label: str = "Normal", size: int = 160) -> Drawing:
    return draw_image(ImageKey(SEED, label, patient, 0), size)


def pixels_of(drawing: Drawing) -> np.ndarray:
    return (255 * drawing.picture).astype(np.uint8)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("part", PARTS)
def test_the_lungs_of_phantoms_are_found_in_both_meanings(part: Part) -> None:
    drawings = [drawn(patient, label) for patient, label in enumerate(("Normal", "Covid19", "Effusion"))]
    for drawing in drawings:
        truth = drawing.chest.aerated_lungs if part == "aerated" else drawing.chest.whole_lungs
        (mask,) = lung_masks(pixels_of(drawing)[None], part)
        assert mask.shape == truth.shape
        assert dice(mask, truth) > 0.85


def test_what_lies_behind_the_heart_is_in_the_whole_lungs_only() -> None:
    pixels = pixels_of(drawn(7))[None]
    aerated, whole = lung_masks(pixels, "aerated"), lung_masks(pixels, "whole")
    heart = drawn(7).chest.whole_lungs & ~drawn(7).chest.aerated_lungs
    assert whole[0][heart].mean() > aerated[0][heart].mean() + 0.4


def test_the_grey_values_scale_does_not_change_the_mask() -> None:
    pixels = pixels_of(drawn(3))
    faint = (60 + pixels * 0.4).astype(np.uint8)
    (first,), (second,) = lung_masks(pixels[None]), lung_masks(faint[None])
    assert dice(first, second) > 0.97


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((120, 120), np.uint8), np.full((80, 140), 200, np.uint8)],
    ids=["black", "even"],
)
def test_an_image_without_lungs_has_an_empty_mask(pixels: np.ndarray) -> None:
    assert not lung_masks(pixels[None]).any()


def test_noise_is_no_lung() -> None:
    noise = np.random.default_rng(5).integers(0, 256, (1, 150, 150)).astype(np.uint8)
    assert not lung_masks(noise).any()


def test_no_images_give_no_masks() -> None:
    assert lung_masks(np.zeros((0, 96, 96), np.uint8)).shape == (0, 96, 96)


def squares(*places: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros((100, 100), bool)
    for top, left, side in places:
        mask[top : top + side, left : left + side] = True
    return mask


def test_small_parts_and_holes_are_removed() -> None:
    mask = squares((20, 10, 30), (20, 60, 30), (80, 80, 5))
    mask[30, 20] = False
    assert (two_lungs(mask, (100, 100)) == squares((20, 10, 30), (20, 60, 30))).all()


@pytest.mark.parametrize(
    "mask",
    [squares((20, 10, 30)), squares((20, 10, 40), (20, 60, 11)), squares((0, 0, 8), (20, 20, 8))],
    ids=["one lung", "one far smaller", "both too small"],
)
def test_implausible_lungs_are_no_lungs(mask: np.ndarray) -> None:
    assert not two_lungs(mask, (100, 100)).any()


def test_the_padding_of_an_image_that_is_no_square_is_cut_off() -> None:
    mask = squares((20, 10, 30), (20, 60, 30))
    assert (two_lungs(mask, (60, 100)) == mask[20:80]).all()


@pytest.fixture(scope="module")
def content() -> bytes:
    return segmenter_bytes(build_segmenter(3), ["masks"], 5, 3, parts=("whole",), left_out_fold="1/2 of OpenIST")


def test_a_file_of_weights_is_read_back(content: bytes) -> None:
    network, header = read_segmenter(content, "weights")
    assert (header.trained_on, header.parts, header.steps) == (("masks",), ("whole",), 5)
    assert header.left_out_fold == "1/2 of OpenIST"
    wanted = [values.astype("float16") for values in build_segmenter(3).get_weights()]
    assert all((a == b).all() for a, b in zip(network.get_weights(), wanted, strict=True))


def test_the_weights_in_the_package_say_what_they_were_trained_on() -> None:
    (name,) = packaged_segmenter()[1].trained_on
    assert name.endswith(" phantoms")


def edited(content: bytes, edit: Callable[[dict[str, np.ndarray]], None]) -> bytes:
    arrays = dict(np.load(io.BytesIO(content)))
    edit(arrays)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def test_a_damaged_or_foreign_file_is_refused(content: bytes, tmp_path) -> None:
    def other_header(arrays: dict[str, np.ndarray]) -> None:
        arrays["header"] = np.frombuffer(b'{"schema_version": 1, "size": 5}', np.uint8)

    files = {
        "no npz": b"not an archive",
        "cut": content[: len(content) // 2],
        "an array missing": edited(content, lambda arrays: arrays.pop("003")),
        "another value": edited(content, lambda arrays: arrays["000"].__setitem__((0, 0, 0, 0), 9)),
        "no header": edited(content, lambda arrays: arrays.pop("header")),
        "a wrong header": edited(content, other_header),
    }
    for damaged in files.values():
        with pytest.raises(WeightsError, match=r"weights\.npz"):
            read_segmenter(damaged, "weights.npz")
    with pytest.raises(WeightsError, match="absent"):
        load_segmenter(tmp_path / "absent.npz")


def test_pickled_objects_are_not_loaded() -> None:
    out = io.BytesIO()
    np.savez(out, header=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(WeightsError):
        read_segmenter(out.getvalue(), "weights.npz")
