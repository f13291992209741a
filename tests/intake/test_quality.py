from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter

from cxr_platform.config import IntakeConfig, QualityConfig
from cxr_platform.intake.candidate import REASONS
from cxr_platform.intake.images import read_image
from cxr_platform.intake.quality import QualityMeasures, judge, measure
from tests.intake.files import thorax

GOOD = QualityMeasures(side=1000, aspect=1.2, contrast=0.7, std=0.2, flat_fraction=0.1, uprightness=0.8)


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
    assert f"{next(iter(change.values())):.2f}".rstrip("0").rstrip(".") in refusal.detail


def test_the_limits_are_those_of_the_profile() -> None:
    assert judge(replace(GOOD, aspect=2.5), QualityConfig(max_aspect=3)) is None


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
