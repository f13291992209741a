from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from cxr_platform.config import IntakeConfig, View
from cxr_platform.domain.operating_point import DecisionRule
from cxr_platform.errors import BundleError, ImageRefused
from cxr_platform.intake.candidate import UNFIT
from cxr_platform.intake.images import read_image
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.lung_views import stacked_views
from cxr_platform.registry.bundle import ONNX
from cxr_platform.registry.store import Registry
from cxr_platform.serving.screener import (
    FINDINGS,
    MAX_BATCH,
    UNLIKE_TRAINING,
    Screener,
    calibrated_probabilities,
    decide,
    distance_findings,
    execution_providers,
    intake_findings,
    open_session,
    prepare_image,
)
from tests.intake.files import dicom, jpeg, png
from tests.registry.builders import changed
from tests.serving.builders import SIZE, graph, image, image_png, registry_with_champion

POINT = DecisionRule(target_sensitivity=0.95, threshold=0.25, zone=(0.2, 0.3))


def test_an_image_gets_seven_probabilities_that_sum_to_one(screener: Screener) -> None:
    prepared = screener.prepare(image_png())
    (screening,) = screener.screen([prepared])
    assert screening.probabilities.shape == (7,)
    assert screening.probabilities.sum() == pytest.approx(1)
    assert screening.label == screener.bundle.labels[int(screening.probabilities.argmax())]
    assert screening.covid19 == screening.probabilities[0]
    assert screening.findings == ()
    assert screening.decision == decide(screening.covid19, screener.bundle.operating_point)


def test_images_are_decoded_and_resized_as_in_the_manifest(screener: Screener) -> None:
    wide = png(image(3)[:, :160])
    prepared = screener.prepare(wide)
    image_of_intake = read_image(wide, IntakeConfig())
    assert np.array_equal(prepared.letterboxed, image_of_intake.pixels)
    assert np.array_equal(prepared.letterboxed, letterbox(image(3)[:, :160], 200).pixels)
    resized = Image.fromarray(prepared.letterboxed).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    assert np.array_equal(prepared.image, np.asarray(resized))
    assert prepared.padding == pytest.approx(0.2)
    assert prepared.brightness == image_of_intake.mean


VIEWS: tuple[View, ...] = ("whole", "lungs")


def test_a_model_of_views_gets_those_that_it_was_trained_on(tmp_path: Path) -> None:
    registry = registry_with_champion(tmp_path, views=VIEWS)
    screener = Screener(*registry.open("v1"), threads=1)
    screener.warm_up()
    wide = png(image(3)[:, :160])
    prepared = screener.prepare(wide)
    assert (prepared.width, prepared.height) == (160, 200)
    sides = np.array([160]), np.array([200])
    expected = stacked_views(VIEWS, prepared.letterboxed[np.newaxis], *sides, SIZE)[0]
    assert np.array_equal(prepared.image, expected)
    assert prepared.image.shape == screener.bundle.preprocessing.input_shape == (2, SIZE, SIZE)
    narrow, square = screener.screen([prepared, screener.prepare(image_png())])
    assert narrow.probabilities.sum() == pytest.approx(1)
    assert square.distance < screener.reference.limit < narrow.distance  # all images of the reference are square


def test_a_result_does_not_depend_on_the_batch(screener: Screener) -> None:
    images = [screener.prepare(image_png(seed)) for seed in range(MAX_BATCH + 3)]
    together = screener.screen(images)
    alone = [screener.screen([prepared])[0] for prepared in images]
    for one, other in zip(together, alone, strict=True):
        assert np.allclose(one.probabilities, other.probabilities, atol=1e-6)
        assert one.distance == pytest.approx(other.distance, rel=1e-4)
    assert screener.screen([]) == []


def test_png_jpeg_and_dicom_of_one_image_get_nearly_the_same_result(screener: Screener) -> None:
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


HOUSE = np.full((200, 200, 3), (60, 130, 235), np.uint8)
HOUSE[120:], HOUSE[60:160, 60:120] = (50, 160, 40), (200, 45, 40)


@pytest.mark.parametrize(
    ("data", "code", "detail"),
    [
        (dicom(image(0), ViewPosition="LL"), "view", "view LL"),
        (dicom(image(0), ViewPosition="", SeriesDescription="Thorax lateral, Doe"), "view", "view LATERAL"),
        (dicom(image(0), BodyPartExamined="HAND"), "body-part", "body part HAND"),
        (dicom(image(0), PresentationIntentType="FOR PROCESSING"), "for-processing", "FOR PRESENTATION"),
        (png(HOUSE), "colour", "most 0.07"),
    ],
    ids=["view", "series", "body-part", "for-processing", "colour"],
)
def test_an_image_that_a_manifest_excludes_is_not_screenable(
    screener: Screener, data: bytes, code: str, detail: str
) -> None:
    (screening,) = screener.screen([screener.prepare(data)])
    assert screening.decision == "not-screenable"
    assert screening.findings[0].code == code
    assert detail in screening.findings[0].detail


def test_the_settings_of_the_bundle_decide_which_views_are_screened(screener: Screener) -> None:
    lateral = dicom(image(0), ViewPosition="LL")
    assert prepare_image(lateral, screener.bundle.preprocessing).findings
    assert prepare_image(lateral, changed(screener.bundle.preprocessing, frontal_only=False)).findings == ()


def test_the_findings_are_those_of_intake_and_of_the_distance() -> None:
    assert set(FINDINGS) == {*UNFIT, UNLIKE_TRAINING}


def test_an_image_unlike_the_training_images_is_not_screenable(screener: Screener) -> None:
    inverted = png(255 - image(0)[:, ::-1] // 2)
    prepared = replace(screener.prepare(inverted), findings=())
    (screening,) = screener.screen([prepared])
    assert screening.distance > screener.reference.limit
    assert screening.decision == "not-screenable"
    assert [finding.code for finding in screening.findings] == ["unlike-training-images"]


def test_the_observation_for_monitoring_has_the_values_of_the_screening(screener: Screener) -> None:
    (screening,) = screener.screen([screener.prepare(image_png())])
    observation = screening.observation
    assert observation.confidence == screening.probabilities.max()
    assert observation.distance == screening.distance
    assert observation.brightness == screening.prepared.brightness


def test_a_file_that_is_not_an_image_is_refused(screener: Screener) -> None:
    with pytest.raises(ImageRefused) as refused:
        screener.prepare(b"no image")
    assert refused.value.reason == "not-an-image"


def test_a_changed_graph_is_refused(registry: Registry) -> None:
    folder, bundle = registry.open()
    (folder / ONNX).write_bytes(b"\0" + (folder / ONNX).read_bytes()[1:])
    with pytest.raises(BundleError, match=ONNX):
        Screener(folder, bundle)


def test_a_screener_warms_up(screener: Screener) -> None:
    screener.warm_up()


def test_temperature_softens_without_changing_the_order() -> None:
    logits = np.array([[3.0, 1.0, 0.0, -1.0, 0.5, 2.0, -2.0]])
    sharp, soft = calibrated_probabilities(logits, 1.0)[0], calibrated_probabilities(logits, 2.0)[0]
    assert sharp.argsort().tolist() == soft.argsort().tolist()
    assert sharp.max() > soft.max()
    assert np.isfinite(calibrated_probabilities(np.array([[1000.0, -1000.0]]), 0.1)).all()


@pytest.mark.parametrize(
    ("probability", "decision"),
    [(0.1, "negative"), (0.1999, "negative"), (0.2, "indeterminate"), (0.29, "indeterminate"), (0.3, "positive")],
)
def test_within_the_zone_the_decision_is_indeterminate(probability: float, decision: str) -> None:
    assert decide(probability, POINT) == decision


def test_without_a_zone_the_threshold_decides() -> None:
    point = changed(POINT, zone=(0.25, 0.25))
    assert [decide(p, point) for p in (0.2499, 0.25)] == ["negative", "positive"]


def test_a_usable_image_has_no_findings() -> None:
    assert intake_findings(read_image(image_png(), IntakeConfig()), IntakeConfig()) == ()


def test_a_limit_of_quality_gives_a_finding_with_the_measured_value() -> None:
    (finding,) = intake_findings(read_image(image_png(0, 80), IntakeConfig()), IntakeConfig())
    assert (finding.code, finding.message) == ("low-resolution", FINDINGS["low-resolution"])
    assert finding.detail == "shorter side 80 pixels, least 100"


@pytest.mark.parametrize(
    ("distance", "codes"), [(1.0, []), (2.0, []), (2.1, [UNLIKE_TRAINING]), (float("nan"), [UNLIKE_TRAINING])]
)
def test_a_distance_above_the_limit_or_nan_gives_a_finding(distance: float, codes: list[str]) -> None:
    assert [finding.code for finding in distance_findings(distance, 2.0)] == codes


def test_a_graph_takes_batches_of_any_size() -> None:
    session = open_session(graph(), threads=1)
    for batch in (1, 5):
        logits, features = session.run(["logits", "features"], {"images": np.zeros((batch, SIZE, SIZE), np.uint8)})
        assert (logits.shape[0], features.shape[0]) == (batch, batch)
    assert session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize("content", [b"", b"no graph", graph()[:200]])
def test_bytes_that_are_not_a_graph_are_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="ONNX Runtime"):
        open_session(content, None)


def test_a_gpu_is_used_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in (
        (["AzureExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
         ["CUDAExecutionProvider", "CPUExecutionProvider"]),
    ):  # fmt: skip
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda names=available: names)
        assert execution_providers() == expected


def test_where_the_heads_of_a_gate_disagree_the_decision_is_indeterminate(tmp_path: Path) -> None:
    with_gate, without = (
        Screener(*registry_with_champion(tmp_path / str(gate), views=VIEWS, gate=gate).open("v1"), threads=1)
        for gate in (True, False)
    )
    images = [with_gate.prepare(image_png(seed)) for seed in range(12)]
    screened, expected = with_gate.screen(images), without.screen(images)
    assert {one.disagreement for one in screened} == {True, False}
    assert not any(one.disagreement or one.findings for one in expected)
    assert {one.decision for one in expected} != {"indeterminate"}
    for one, plain in zip(screened, expected, strict=True):
        assert one.decision == ("indeterminate" if one.disagreement else plain.decision)
        assert np.array_equal(one.probabilities, plain.probabilities)
