"""A graph that does not answer as the network does never becomes a bundle."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from cxr_platform.champion.export import export_onnx
from cxr_platform.champion.parity import TOLERANCE, keras_probabilities, measure_parity, spread_out
from cxr_platform.errors import BundleError
from tests.champion.builders import MODEL, SIDE, made_network, made_weights


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("champion")
    export_onnx("scratch", MODEL, made_weights(folder / "model.weights.h5"), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, SIDE, SIDE)).astype("uint8")


def with_weights(graph: Path, to: Path, change: float) -> Path:
    """The same graph, every number of its largest table changed by `change`."""
    model = onnx.load(str(graph))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(largest) + np.float32(change)
    largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
    onnx.save(model, str(to))
    return to


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_difference_is_measured_on_every_image_at_the_temperature_in_use(
    graph: Path, images: np.ndarray, temperature: float
) -> None:
    parity = measure_parity(made_network(), graph, images, temperature)
    assert (parity.images, parity.tolerance) == (70, TOLERANCE)
    assert 0 < parity.max_abs_difference < TOLERANCE


@pytest.mark.parametrize("change", [1e-3, float("nan")])
def test_a_graph_that_answers_otherwise_is_refused_with_the_figure(
    tmp_path: Path, graph: Path, images: np.ndarray, change: float
) -> None:
    changed = with_weights(graph, tmp_path / "changed.onnx", change)
    with pytest.raises(BundleError) as refused:
        measure_parity(made_network(), changed, images, 1.0)
    assert "Expected ONNX Runtime and Keras to give the same probabilities within 0.0001 on 70 images" in str(
        refused.value
    )
    assert "No bundle was made" in str(refused.value)


def test_one_image_that_differs_is_enough(graph: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    right = keras_probabilities(made_network(), images)
    right[33] = np.roll(right[33], 1)
    monkeypatch.setattr("cxr_platform.champion.parity.keras_probabilities", lambda *_: right)
    with pytest.raises(BundleError, match="a difference of 0"):
        measure_parity(made_network(), graph, images, 1.0)


def test_keras_predicts_as_a_trial_does(images: np.ndarray) -> None:
    probabilities = keras_probabilities(made_network(), images)
    assert probabilities.shape == (70, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities.argmax(axis=1).std() > 0


def test_the_images_are_taken_from_all_over_the_manifest() -> None:
    assert spread_out(3).tolist() == [0, 1, 2]
    rows = spread_out(3376)
    assert len(rows) == 256
    assert (rows[0], rows[-1]) == (0, 3375)
    assert set(np.diff(rows)) == {13, 14}
