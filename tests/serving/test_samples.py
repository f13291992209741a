"""Each sample is decoded by intake, and only the spoiled ones are found to be so."""

import pytest

from cxr_platform.config import IntakeConfig
from cxr_platform.intake.images import read_image
from cxr_platform.intake.quality import judge
from cxr_platform.labels import CLASSES
from cxr_platform.serving.samples import SAMPLES, draw_sample


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_an_image_with_the_flaw_that_it_is_said_to_have(name: str) -> None:
    config = IntakeConfig()
    image = read_image(draw_sample(name), config)
    refusal = judge(image.quality, config.quality)
    assert image.container == "PNG"
    assert SAMPLES[name].label in CLASSES
    assert (refusal.reason if refusal else None) == SAMPLES[name].flaw


def test_a_sample_is_small_and_the_same_each_time() -> None:
    first = draw_sample("normal")
    draw_sample.cache_clear()
    assert draw_sample("normal") == first
    assert max(len(draw_sample(name)) for name in SAMPLES) < 100_000


def test_a_name_that_is_no_sample_is_no_image() -> None:
    with pytest.raises(KeyError):
        draw_sample("../secret")
