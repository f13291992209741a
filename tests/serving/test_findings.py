import pytest

from cxr_platform.config import QualityConfig
from cxr_platform.intake.quality import QualityMeasures
from cxr_platform.serving.findings import SENTENCES, UNLIKE, distance_findings, quality_findings

GOOD = {"side": 500, "aspect": 1.1, "contrast": 0.6, "std": 0.2, "flat_fraction": 0.1, "uprightness": 0.8}


def test_a_usable_image_has_no_findings() -> None:
    assert quality_findings(QualityMeasures(**GOOD), QualityConfig()) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"contrast": 0.1}, "low-contrast"),
        ({"aspect": 3.0}, "partial"),
        ({"flat_fraction": 0.9}, "partial"),
        ({"uprightness": -1.0}, "not-upright"),
        ({"side": 50}, "low-resolution"),
    ],
)
def test_each_limit_is_a_finding_with_its_figure(change: dict[str, float], code: str) -> None:
    (finding,) = quality_findings(QualityMeasures(**{**GOOD, **change}), QualityConfig())  # type: ignore[arg-type]
    assert finding.code == code
    assert finding.sentence == SENTENCES[code]
    assert any(character.isdigit() for character in finding.detail)


@pytest.mark.parametrize(("distance", "codes"), [(1.0, []), (2.0, []), (2.1, [UNLIKE]), (float("nan"), [UNLIKE])])
def test_what_lies_beyond_the_limit_is_unlike_the_training_images(distance: float, codes: list[str]) -> None:
    assert [finding.code for finding in distance_findings(distance, 2.0)] == codes
