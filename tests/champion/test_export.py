"""The ONNX graph takes batches of any size and gives the answers of the Keras network, or there is an error."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from cxr_platform.champion.export import (
    TOLERANCE,
    champion_network,
    evenly_spaced_rows,
    export_onnx,
    measure_parity,
    onnx_answers,
)
from cxr_platform.config import RobustConfig
from cxr_platform.errors import BundleError
from cxr_platform.labels import class_index
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.robust_trial import indeterminate_images
from cxr_platform.training.trial import batch_outputs, predict_images
from tests.champion.builders import MODEL, SIDE, made_network, made_robust_weights


@pytest.fixture(scope="module")
def network() -> Network:
    return made_network()


@pytest.fixture(scope="module")
def weights(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("champion") / "model.weights.h5"
    network.full.save_weights(file)
    return file


@pytest.fixture(scope="module")
def graph(weights: Path) -> Path:
    file = weights.with_name("model.onnx")
    export_onnx(champion_network("scratch", MODEL, weights), file)
    return file


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE)).astype("uint8")


def test_the_graph_has_the_inputs_and_outputs_that_serving_relies_on(graph: Path) -> None:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    described = {t.name: (t.type, t.shape) for t in (*session.get_inputs(), *session.get_outputs())}
    assert described == {
        "images": ("tensor(uint8)", ["batch", SIDE, SIDE]),
        "logits": ("tensor(float)", ["batch", 7]),
        "features": ("tensor(float)", ["batch", 1280]),
    }
    onnx.checker.check_model(str(graph), full_check=True)


@pytest.fixture(scope="module")
def both(weights: Path) -> keras.Model:
    """The network of the file, with logits and features as its outputs."""
    network = champion_network("scratch", MODEL, weights).full
    return keras.Model(network.input, [network.output, network.get_layer("features").output])


@pytest.mark.parametrize("count", [0, 1, 5, 150])
def test_it_answers_as_keras_for_any_number_of_images(graph: Path, both: keras.Model, count: int) -> None:
    logits, features = onnx_answers(graph, images(count))
    wanted = [np.zeros((0, 7)), np.zeros((0, 1280))]
    if count:
        wanted = [np.asarray(output) for output in both(to_network_input(images(count)), training=False)]
    assert logits.shape == (count, 7)
    np.testing.assert_allclose(logits, wanted[0], atol=1e-4)
    np.testing.assert_allclose(features, wanted[1], atol=1e-4)


def test_images_differ_in_their_answers(graph: Path) -> None:
    logits, features = onnx_answers(graph, images(5))
    assert logits.std(axis=0).min() > 1e-3
    assert features.std(axis=0).max() > 1e-3


def test_every_strategy_has_the_same_graph(tmp_path: Path, graph: Path, weights: Path) -> None:
    export_onnx(champion_network("fine-tuning-3", MODEL, weights), tmp_path / "other.onnx")
    for ours, theirs in zip(
        onnx_answers(graph, images(3)), onnx_answers(tmp_path / "other.onnx", images(3)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


ROBUST = {
    "plain": RobustConfig(views=("whole", "lungs")),
    "one view": RobustConfig(views=("lungs",)),
    "against Normal": RobustConfig(views=("whole", "lungs"), against="normal", margin=3.0),
    "gate": RobustConfig(views=("whole", "lungs"), gate=True, against="normal"),
}


@pytest.mark.parametrize("name", ROBUST)
def test_the_graph_of_robust_takes_views_and_answers_as_keras(tmp_path: Path, network: Network, name: str) -> None:
    config, shape = ROBUST[name], (len(ROBUST[name].views), SIDE, SIDE)
    weights = made_robust_weights(tmp_path / "model.weights.h5", network, config)
    made = champion_network("robust", MODEL, weights, robust=config)
    export_onnx(made, tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    views = np.random.default_rng(3).integers(0, 256, (40, *shape)).astype("uint8")
    logits, features = onnx_answers(tmp_path / "model.onnx", views)
    assert logits.std(axis=0).min() > 1e-3
    of_views = [onnx_answers(graph_of(network, tmp_path), views[:, place])[1] for place in range(shape[0])]
    np.testing.assert_allclose(features, np.mean(of_views, axis=0), atol=1e-4)
    assert 0 < measure_parity(made, tmp_path / "model.onnx", views, 1.0).max_abs_difference < TOLERANCE
    outputs = [output.name for output in onnx.load(tmp_path / "model.onnx").graph.output]
    assert outputs == ["logits", "features", *(["disagreement"] if config.gate else [])]


def test_the_graph_of_a_gate_tells_where_its_heads_disagree_as_keras_does(tmp_path: Path, network: Network) -> None:
    config = RobustConfig(views=("whole", "lungs"), gate=True)
    weights = made_robust_weights(tmp_path / "model.weights.h5", network, config)
    made = champion_network("robust", MODEL, weights, robust=config)
    views = np.random.default_rng(3).integers(0, 256, (60, 2, SIDE, SIDE)).astype("uint8")
    balance_heads(made, views)
    export_onnx(made, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (told,) = session.run(["disagreement"], {"images": views})
    expected = indeterminate_images(made, views)
    assert expected is not None
    assert 0 < expected.sum() < len(views)
    np.testing.assert_array_equal(told[:, 0], expected)
    measure_parity(made, tmp_path / "model.onnx", views, 1.0)
    with pytest.raises(BundleError, match=r"indeterminate.*other answers for \d+ images.*No bundle was made"):
        measure_parity(made, with_disagreement_inverted(tmp_path / "model.onnx"), views, 1.0)


def with_disagreement_inverted(graph: Path) -> Path:
    """A graph with the same logits that tells a disagreement where there is none, and none where there is one."""
    model = onnx.load(str(graph))
    (node,) = [node for node in model.graph.node if node.output[0] == "disagreement"]
    node.output[0] = "agreement"
    model.graph.node.append(onnx.helper.make_node("Not", ["agreement"], ["disagreement"]))
    onnx.save(model, str(graph))
    return graph


def test_a_difference_at_the_gate_is_allowed_where_rounding_decides(tmp_path: Path, network: Network) -> None:
    config = RobustConfig(views=("whole", "lungs"), gate=True)
    weights = made_robust_weights(tmp_path / "model.weights.h5", network, config)
    made = champion_network("robust", MODEL, weights, robust=config)
    views = np.random.default_rng(3).integers(0, 256, (9, 2, SIDE, SIDE)).astype("uint8")
    arrays, covid19 = made.full.get_layer("head_logits").get_weights(), class_index("Covid19")
    for number in (0, 1):  # Covid19 has the scores of Normal, and every other class lower ones: a tie of the two
        kernel, bias = arrays[2 * number], arrays[2 * number + 1]
        bias[:] = -100
        kernel[:] = 0
        bias[[covid19, class_index("Normal")]] = 0
    made.full.get_layer("head_logits").set_weights(arrays)
    export_onnx(made, tmp_path / "model.onnx")
    measure_parity(made, with_disagreement_inverted(tmp_path / "model.onnx"), views, 1.0)


def balance_heads(made: Network, views: np.ndarray) -> None:
    """Shift both heads so that each names Covid19 for half of the images, and not for the same ones."""
    head, covid19 = made.full.get_layer("head_logits"), class_index("Covid19")
    features = keras.Model(made.full.input, made.full.get_layer("features").output)
    given = np.concatenate(list(batch_outputs(features, views)))
    arrays = head.get_weights()
    first, second = (given @ kernel + bias for kernel, bias in (arrays[:2], arrays[2:]))
    others = [np.delete(scores, covid19, axis=1) for scores in (first, second)]
    highest, (whole, of_second) = others[0].max(axis=1), (np.logaddexp.reduce(each, axis=1) for each in others)
    arrays[1][covid19] -= np.median(first[:, covid19] - highest)
    arrays[3][covid19] -= np.median(second[:, covid19] - of_second - highest + whole)
    head.set_weights(arrays)


def graph_of(network: Network, folder: Path) -> Path:
    export_onnx(network, folder / "whole.onnx")
    return folder / "whole.onnx"


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_weights_that_cannot_be_read_are_an_error_with_their_place(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "model.weights.h5"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BundleError, match=r"Expected the weights of a scratch network .*model\.weights\.h5"):
        champion_network("scratch", MODEL, file)


def test_weights_of_another_network_are_an_error(weights: Path) -> None:
    with pytest.raises(BundleError, match="Expected the weights"):
        champion_network("scratch", replace(MODEL, dense_units=33), weights)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return images(70)


def with_weights(graph: Path, to: Path, change: float) -> Path:
    """The same graph, every number of its largest table changed by `change`."""
    model = onnx.load(str(graph))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(largest) + np.float32(change)
    largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
    onnx.save(model, str(to))
    return to


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_parity_is_measured_on_every_image_at_the_temperature_in_use(
    network: Network, graph: Path, pixels: np.ndarray, temperature: float
) -> None:
    parity = measure_parity(network, graph, pixels, temperature)
    assert (parity.images, parity.tolerance) == (70, TOLERANCE)
    assert 0 < parity.max_abs_difference < TOLERANCE


@pytest.mark.parametrize("change", [1e-3, float("nan")])
def test_a_graph_with_other_answers_is_an_error_with_the_difference(
    tmp_path: Path, network: Network, graph: Path, pixels: np.ndarray, change: float
) -> None:
    changed = with_weights(graph, tmp_path / "changed.onnx", change)
    with pytest.raises(BundleError) as refused:
        measure_parity(network, changed, pixels, 1.0)
    assert "Expected ONNX Runtime and Keras to give the same probabilities within 0.0001 on 70 images" in str(
        refused.value
    )
    assert "No bundle was made" in str(refused.value)


def test_one_image_with_another_answer_is_an_error(
    network: Network, graph: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = predict_images(network, pixels)
    right[33] = np.roll(right[33], 1)
    monkeypatch.setattr("cxr_platform.training.trial.predict_images", lambda *_: right)
    with pytest.raises(BundleError, match="a difference of 0"):
        measure_parity(network, graph, pixels, 1.0)


def test_keras_predicts_as_a_trial_does(network: Network, pixels: np.ndarray) -> None:
    probabilities = predict_images(network, pixels)
    assert probabilities.shape == (70, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert probabilities.argmax(axis=1).std() > 0


def test_rows_are_spread_evenly_over_the_manifest() -> None:
    assert evenly_spaced_rows(3).tolist() == [0, 1, 2]
    rows = evenly_spaced_rows(3376)
    assert len(rows) == 256
    assert (rows[0], rows[-1]) == (0, 3375)
    assert set(np.diff(rows)) == {13, 14}
