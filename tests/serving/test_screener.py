from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cxr_platform.config import IntakeConfig
from cxr_platform.domain.operating_point import DecisionRule
from cxr_platform.errors import BundleError, ImageRefused
from cxr_platform.intake.images import read_image
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.registry.bundle import ONNX
from cxr_platform.registry.store import Registry
from cxr_platform.serving.screener import CHUNK, Screener, calibrated, decide
from tests.intake.files import dicom, jpeg, png
from tests.registry.builders import changed
from tests.serving.builders import SIZE, image, image_png

POINT = DecisionRule(target_sensitivity=0.95, threshold=0.25, zone=(0.2, 0.3))


def test_an_image_is_answered_with_seven_probabilities_that_add_up(screener: Screener) -> None:
    prepared = screener.prepare(image_png())
    (screening,) = screener.screen([prepared])
    assert screening.probabilities.shape == (7,)
    assert screening.probabilities.sum() == pytest.approx(1)
    assert screening.label == screener.bundle.labels[int(screening.probabilities.argmax())]
    assert screening.covid19 == screening.probabilities[0]
    assert screening.findings == ()
    assert screening.decision == decide(screening.covid19, screener.bundle.operating_point)


def test_decoding_and_sizes_are_those_of_the_manifest(screener: Screener) -> None:
    wide = png(image(3)[:, :160])
    prepared = screener.prepare(wide)
    image_of_intake = read_image(wide, IntakeConfig())
    assert np.array_equal(prepared.letterboxed, image_of_intake.pixels)
    assert np.array_equal(prepared.letterboxed, letterbox(image(3)[:, :160], 200).pixels)
    resized = Image.fromarray(prepared.letterboxed).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    assert np.array_equal(prepared.image, np.asarray(resized))
    assert prepared.padding == pytest.approx(0.2)
    assert prepared.brightness == image_of_intake.mean


def test_an_image_is_answered_alike_alone_and_among_many(screener: Screener) -> None:
    images = [screener.prepare(image_png(seed)) for seed in range(CHUNK + 3)]
    together = screener.screen(images)
    alone = [screener.screen([prepared])[0] for prepared in images]
    for one, other in zip(together, alone, strict=True):
        assert np.allclose(one.probabilities, other.probabilities, atol=1e-6)
        assert one.distance == pytest.approx(other.distance, rel=1e-4)
    assert screener.screen([]) == []


def test_png_jpeg_and_dicom_of_one_image_are_answered_nearly_alike(screener: Screener) -> None:
    values = image(1)
    screenings = screener.screen([screener.prepare(data) for data in (png(values), jpeg(values), dicom(values))])
    assert [s.prepared.container for s in screenings] == ["PNG", "JPEG", "DICOM"]
    assert np.ptp([s.covid19 for s in screenings]) < 0.02


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.full((200, 200), 90, np.uint8), "low-contrast"),
        (image(0, 400)[:130], "partial"),
        (np.rot90(image(0)), "not-upright"),
        (image(0, 64), "low-resolution"),
    ],
)
def test_an_image_of_poor_quality_is_not_screenable(screener: Screener, values: np.ndarray, code: str) -> None:
    (screening,) = screener.screen([screener.prepare(png(np.ascontiguousarray(values)))])
    assert screening.decision == "not-screenable"
    assert code in {finding.code for finding in screening.findings}


def test_an_image_unlike_those_of_training_is_not_screenable(screener: Screener) -> None:
    inverted = png(255 - image(0)[:, ::-1] // 2)
    prepared = replace(screener.prepare(inverted), findings=())
    (screening,) = screener.screen([prepared])
    assert screening.distance > screener.reference.limit
    assert screening.decision == "not-screenable"
    assert [finding.code for finding in screening.findings] == ["unlike-training-images"]


def test_what_monitoring_keeps_is_seven_numbers(screener: Screener) -> None:
    (screening,) = screener.screen([screener.prepare(image_png())])
    observation = screening.observation
    assert observation.confidence == screening.probabilities.max()
    assert observation.distance == screening.distance
    assert observation.brightness == screening.prepared.brightness


def test_what_is_no_image_is_refused(screener: Screener) -> None:
    with pytest.raises(ImageRefused) as refused:
        screener.prepare(b"no image")
    assert refused.value.reason == "not-an-image"


def test_a_changed_graph_is_refused(registry: Registry) -> None:
    folder, bundle = registry.open()
    (folder / ONNX).write_bytes(b"\0" + (folder / ONNX).read_bytes()[1:])
    with pytest.raises(BundleError, match=ONNX):
        Screener(folder, bundle)


def test_warming_up_answers_an_image(screener: Screener) -> None:
    screener.warm_up()


def test_temperature_softens_without_changing_the_order() -> None:
    logits = np.array([[3.0, 1.0, 0.0, -1.0, 0.5, 2.0, -2.0]])
    sharp, soft = calibrated(logits, 1.0)[0], calibrated(logits, 2.0)[0]
    assert sharp.argsort().tolist() == soft.argsort().tolist()
    assert sharp.max() > soft.max()
    assert np.isfinite(calibrated(np.array([[1000.0, -1000.0]]), 0.1)).all()


@pytest.mark.parametrize(
    ("probability", "decision"),
    [(0.1, "negative"), (0.1999, "negative"), (0.2, "indeterminate"), (0.29, "indeterminate"), (0.3, "positive")],
)
def test_the_decision_has_a_zone_in_which_nothing_is_decided(probability: float, decision: str) -> None:
    assert decide(probability, POINT) == decision


def test_without_a_zone_the_threshold_decides() -> None:
    point = changed(POINT, zone=(0.25, 0.25))
    assert [decide(p, point) for p in (0.2499, 0.25)] == ["negative", "positive"]
