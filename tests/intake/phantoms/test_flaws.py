import numpy as np
import pytest

from cxr_platform.config import IntakeConfig, SelectionConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.images import read_image
from cxr_platform.intake.phantoms.encode import Header, encode
from cxr_platform.intake.phantoms.flaws import draw_flaw
from cxr_platform.intake.phantoms.image import ImageKey, draw_image
from cxr_platform.intake.phantoms.plan import FLAWS, PlannedFlaw, plan_flaws
from cxr_platform.intake.quality import judge
from cxr_platform.intake.sources import find_candidates
from cxr_platform.labels import CLASSES

CONFIG = IntakeConfig()
SIZE = 128


def flaws(kind: str) -> list[PlannedFlaw]:
    return [planned for planned in plan_flaws(200, 6) if planned.flaw == kind]


def refusal_of(data: bytes) -> str | None:
    try:
        image = read_image(data, CONFIG)
    except ImageRefused as refused:
        return refused.reason
    refusal = judge(image.quality, CONFIG.quality)
    return refusal.reason if refusal else None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("low-contrast", "low-contrast"),
        ("partial", "partial"),
        ("text", "not-an-image"),
        ("truncated", "undecodable"),
        ("multi-frame", "multi-frame"),
    ],
)
def test_intake_refuses_each_flaw_for_its_reason(kind: str, reason: str):
    for planned in flaws(kind)[:5]:
        data, row = draw_flaw(planned, SIZE)
        assert refusal_of(data) == reason
        assert row is not None
        assert row["label"] == planned.key.label


def test_a_lateral_image_is_listed_as_such():
    _, row = draw_flaw(flaws("lateral")[0], SIZE)
    assert row is not None
    assert row["view"] == "LATERAL"


def test_an_unlisted_image_is_a_good_image_without_a_row():
    data, row = draw_flaw(flaws("unlisted")[0], SIZE)
    assert row is None
    assert refusal_of(data) is None


@pytest.mark.parametrize("label", CLASSES)
def test_good_images_pass_the_quality_limits_with_room_to_spare(label: str):
    for patient in range(6):
        drawing = draw_image(ImageKey(8, label, patient, 0), SIZE)
        header = Header("PH", drawing.patient.sex, drawing.patient.age, "PA", "x")
        quality = read_image(encode(drawing.picture, "png", header), CONFIG).quality
        assert quality.contrast > 2 * CONFIG.quality.min_contrast
        assert quality.std > 2 * CONFIG.quality.min_std
        assert quality.flat_fraction < 0.7 * CONFIG.quality.max_flat_fraction
        assert quality.uprightness > CONFIG.quality.min_uprightness + 0.2


def test_the_reader_of_phantoms_finds_every_file_and_refuses_by_the_table(small_collection):
    found = find_candidates(small_collection, SelectionConfig())
    reasons = [c.refusal.reason for c in found.candidates if c.refusal]
    assert sorted(reasons) == ["not-listed", "view"]
    assert len(found.candidates) == 4 * 7 + len(FLAWS)
    assert found.synthetic_sources == {"phantoms"}
    labels = [c.label for c in found.candidates if c.refusal is None]
    assert np.unique(labels).tolist() == sorted(CLASSES)
