from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from sklearn.datasets import load_sample_image

from cxr_platform.config import IntakeConfig, QualityConfig
from cxr_platform.intake.candidate import REASONS, UNFIT
from cxr_platform.intake.images import read_image
from cxr_platform.intake.quality import QualityMeasures, judge, measure
from tests.intake.files import png, saved, thorax

GOOD = QualityMeasures(colour=0.02, side=1000, aspect=1.2, contrast=0.7, std=0.2, flat_fraction=0.1, uprightness=0.8)


def test_contrast_and_deviation_are_shares_of_the_range_from_black_to_white() -> None:
    content = np.repeat(np.array([[0], [255]], np.uint8), 50, axis=1)
    measures = measure(content, 50, 2)
    assert measures.contrast == 1.0
    assert measures.std == 0.5


def test_side_and_aspect_are_those_of_the_stored_image() -> None:
    measures = measure(thorax(), 3000, 2000)
    assert (measures.side, measures.aspect) == (2000, 1.5)


def test_flat_pixels_have_a_neighbourhood_of_at_most_3_levels() -> None:
    content = np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)
    content[:, :50] = np.where(np.arange(50) % 2, 100, 103)
    assert measure(content, 100, 100).flat_fraction == pytest.approx(0.48, abs=0.005)


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 4), (77, 200), (200, 157)])
@pytest.mark.parametrize("levels", [4, 6, 256])
def test_flat_fraction_equals_that_of_the_filters_of_scipy(shape: tuple[int, int], levels: int) -> None:
    """To the bit: manifests hold it. The image is part of a letterbox, and its rows do not follow one another."""
    box = np.random.default_rng(levels).integers(0, levels, (200, 200), dtype=np.uint8)
    content = box[: shape[0], 200 - shape[1] :]
    spans = maximum_filter(content, 5, mode="nearest") - minimum_filter(content, 5, mode="nearest")
    assert measure(content, 200, 200).flat_fraction == float((spans <= 3).mean())


def test_uprightness_separates_a_thorax_from_one_on_its_side() -> None:
    upright, lying = measure(thorax(), 9, 9), measure(np.ascontiguousarray(thorax().T), 9, 9)
    assert upright.uprightness > 0.5
    assert lying.uprightness == pytest.approx(-upright.uprightness, abs=0.01)


def drawing(size: int = 240) -> NDArray[np.uint8]:
    """A house in front of the sky."""
    picture = np.full((size, size, 3), (60, 130, 235), np.uint8)
    picture[size * 3 // 5 :] = 50, 160, 40
    picture[size // 3 : size * 4 // 5, size // 3 : size * 2 // 3] = 200, 45, 40
    return picture


def coloured(red: float, green: float, blue: float) -> NDArray[np.uint8]:
    """A radiograph seen through a coloured glass."""
    return np.clip(thorax()[..., None] * np.array([red, green, blue]), 0, 255).astype(np.uint8)


def overlaid(strength: float) -> NDArray[np.uint8]:
    """A radiograph with a heatmap from blue to red over all of it."""
    share = np.linspace(0, 1, 200)[None, :, None]
    heat = 255 * (share * np.array([1, 0, 0]) + (1 - share) * np.array([0, 0, 1]))
    return ((1 - strength) * thorax()[..., None] + strength * heat).astype(np.uint8)


def marked() -> NDArray[np.uint8]:
    picture = coloured(1, 1, 1)
    picture[10:30, 10:40] = 255, 30, 0
    picture[100:140, 150:152] = 255, 255, 0
    return picture


def colour_of(picture: NDArray[np.uint8], container: str, mode: str = "RGB") -> float:
    image = Image.fromarray(picture)
    image = image.quantize(64) if mode == "P" else image.convert(mode)
    return read_image(saved(image, container), IntakeConfig()).quality.colour


STRONGEST = QualityConfig().max_colour


@pytest.mark.parametrize(("container", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK")])
def test_a_drawing_has_strong_colours_and_a_tinted_or_marked_radiograph_has_not(container: str, mode: str) -> None:
    assert colour_of(drawing(), container, mode) > 3 * STRONGEST
    assert colour_of(overlaid(0.4), container, mode) > STRONGEST
    for radiograph in (coloured(1, 1, 1), coloured(0.75, 0.9, 1), coloured(1.35, 1.2, 0.94), coloured(0.7, 0.6, 1)):
        assert colour_of(radiograph, container, mode) < STRONGEST / 2
    assert colour_of(marked(), container, mode) < 0.75 * STRONGEST


def muted(picture: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The picture with this share of its colours."""
    grey = (picture @ np.array([0.299, 0.587, 0.114]))[..., None]
    return np.clip(grey + share * (picture - grey), 0, 255).astype(np.uint8)


def hills(size: int = 240) -> NDArray[np.uint8]:
    """A landscape in dull colours: haze, woods, a field, a roof."""
    rng = np.random.default_rng(4)
    picture = np.full((size, size, 3), (150, 165, 180), np.float64)
    picture[size // 2 :] = 105, 120, 95
    picture[size * 3 // 4 :] = 140, 130, 105
    picture[size // 2 : size * 2 // 3, size // 3 : size * 2 // 3] = 150, 115, 110
    return np.clip(picture * rng.normal(1, 0.25, (size, size, 1)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_photograph_in_colour_is_refused_also_if_its_colours_are_weak(name: str, share: float) -> None:
    picture = muted(load_sample_image(name), share)
    for container in ("PNG", "JPEG"):
        refusal = judge(read_image(saved(picture, container), IntakeConfig()).quality, QualityConfig())
        assert refusal is not None
        assert refusal.reason == "colour"


def test_a_picture_in_several_dull_hues_is_refused() -> None:
    assert colour_of(muted(drawing(), 0.2), "JPEG") > STRONGEST
    assert colour_of(hills(), "JPEG") > STRONGEST


def test_two_hues_are_those_of_a_light_box_in_a_room_and_a_third_one_counts() -> None:
    """The colours are so dull that their strength alone is far below the limit."""
    picture = coloured(1, 1, 1)
    picture[:, :100] = coloured(0.94, 0.98, 1.04)[:, :100]
    picture[170:] = 120, 108, 100
    two = colour_of(picture, "PNG")
    assert two < STRONGEST / 2
    picture[:20] = 96, 114, 96
    assert colour_of(picture, "PNG") == pytest.approx(two + 0.1, abs=0.02)


def test_the_colours_of_16_bits_and_behind_alpha_count() -> None:
    deep = cv2.imencode(".png", drawing()[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    assert read_image(deep, IntakeConfig()).quality.colour > STRONGEST
    transparent = np.dstack([drawing(), np.zeros((240, 240), np.uint8)])
    assert read_image(png(transparent), IntakeConfig()).quality.colour == 0


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_a_grey_image_has_no_colour(mode: str) -> None:
    assert read_image(png(Image.fromarray(thorax()).convert(mode)), IntakeConfig()).quality.colour == 0


def test_noise_of_the_colours_counts_little() -> None:
    noise = np.random.default_rng(0).normal(0, 25, (600, 600, 3))
    picture = np.clip(thorax(600)[..., None] + noise, 0, 255).astype(np.uint8)
    assert colour_of(picture, "JPEG") < STRONGEST / 4


def test_an_empty_image_has_no_uprightness_and_is_judged_by_its_contrast() -> None:
    measures = measure(np.zeros((100, 200), np.uint8), 400, 200)
    assert measures.uprightness == 0
    refusal = judge(measures, QualityConfig())
    assert refusal is not None
    assert refusal.reason == "low-contrast"


def test_a_good_image_passes() -> None:
    assert judge(GOOD, QualityConfig()) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": 0.2}, "colour"),
        ({"side": 64}, "low-resolution"),
        ({"contrast": 0.1}, "low-contrast"),
        ({"std": 0.01}, "low-contrast"),
        ({"aspect": 2.5}, "partial"),
        ({"flat_fraction": 0.8}, "partial"),
        ({"uprightness": -0.6}, "not-upright"),
    ],
)
def test_each_limit_has_its_reason_and_the_detail_gives_the_value(change: dict[str, float], reason: str) -> None:
    refusal = judge(replace(GOOD, **change), QualityConfig())
    assert refusal is not None
    assert refusal.reason == reason
    assert reason in REASONS
    assert reason in UNFIT
    assert f"{next(iter(change.values())):.2f}".rstrip("0").rstrip(".") in refusal.detail


def test_the_limits_are_those_of_the_profile() -> None:
    assert judge(replace(GOOD, aspect=2.5), QualityConfig(max_aspect=3)) is None


@pytest.mark.real
def test_no_real_radiograph_is_refused_for_its_colours(real_data: Path) -> None:
    """The most coloured ones: photographs of screens and of light boxes."""
    cohen, cxnet = "sources/covid-chestxray-dataset/images", "adults/COVID-CXNet/chest_xray_images/covid19"
    files = [f"{cohen}/{name}" for name in ("000005-5-b.jpg", "tpmd200203f2-a.png", "case_76_1-3.png")]
    files += [f"{cxnet}/{name}" for name in ("244.jfif", "805.png", "398.jpg")]
    present = [real_data / file for file in files if (real_data / file).is_file()]
    assert present
    colours = [read_image(file.read_bytes(), IntakeConfig()).quality.colour for file in present]
    assert 0 < max(colours) < 0.06


def _refusals(files: list[Path]) -> list[str | None]:
    config = IntakeConfig()
    refusals = (judge(read_image(file.read_bytes(), config).quality, config.quality) for file in files)
    return [refusal.reason if refusal else None for refusal in refusals]


@pytest.mark.real
def test_real_images_on_their_side_or_of_64_pixels_are_refused(real_data: Path) -> None:
    lying = sorted((real_data / "extras/nih_rotated90/images").glob("*.png"))
    small = sorted((real_data / "extras/nih_lowres_64px/images").glob("*.png"))[:20]
    assert _refusals(lying) == ["not-upright"] * 16
    assert _refusals(small) == ["low-resolution"] * 20


@pytest.mark.real
def test_fewer_than_3_in_100_real_frontal_images_are_excluded(real_data: Path) -> None:
    kermany, effusion = "chest_xray/train", "pleural-effusion-detection/dataset/train_test/effusion"
    folders = (f"{kermany}/NORMAL", f"{kermany}/PNEUMONIA", effusion)
    sample = chain.from_iterable(islice(sorted((real_data / "sources" / f).iterdir()), 0, None, 15) for f in folders)
    refusals = _refusals(list(sample))
    assert len(refusals) > 100
    assert sum(r is not None for r in refusals) / len(refusals) < 0.03
