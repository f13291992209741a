"""Runs small trials on whatever backend Keras has, and stores what came of them."""

import sys
from functools import cache
from typing import Any

import keras
import numpy as np

from cxr_platform.config import Profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.models.mobilenet import DepthwiseConv2D
from cxr_platform.training.data import StudyData
from cxr_platform.training.inputs import FrozenInputs, ImageInputs, Inputs, clean_batch
from cxr_platform.training.step import Placement
from cxr_platform.training.trial import TrialData, Workbench, run_trial, softmax
from tests.training.builders import same_batch, tiny_data, tiny_profile


def probe() -> dict[str, np.ndarray]:
    """What the first steps of a strategy cost and leave behind, and two runs of one off-the-shelf trial.

    Without dropout, whose random bits differ by backend.
    """
    profile = tiny_profile(**{"model.dropout": 0.0, "training.off_the_shelf.epochs": 8})
    data = tiny_data()
    bench = Workbench(profile.model, profile.training, numpy_imagenet())
    outcome = {
        **_first_steps(bench, "scratch", ImageInputs(data.images, profile.augmentation), data, count=1),
        **_first_steps(bench, "fine-tuning-1", separable_features(data, (1, 1, 160)), data, count=4),
    }
    rows = TrialData(separable_features(data), data.labels, data.rows_outside(0), data.rows_of_fold(0))
    strategy = strategy_by_name("off-the-shelf")
    result = run_trial(bench, strategy, rows, seed=9)
    outcome["losses"] = np.array([epoch.loss for epoch in result.history])
    outcome["probabilities"] = result.probabilities
    outcome["kernel"] = np.array(result.network.full.get_layer("head_logits").kernel)
    outcome["again"] = run_trial(bench, strategy, rows, seed=9).probabilities
    other = TrialData(rows.inputs, rows.labels, rows.test, rows.train[:20])
    run_trial(bench, strategy, other, seed=8)
    outcome["compilations"] = np.array(_compilations(bench.set_up(strategy, seed=9)[1]))
    outcome |= _in_a_loop(profile, rows) if keras.backend.backend() == "jax" else {}
    return {**outcome, **_mixed(rows), **_depthwise()}


def _compilations(step: Any) -> list[int]:
    """How often training and prediction were compiled."""
    if keras.backend.backend() == "jax":
        return [step._train._cache_size(), step._infer._cache_size()]
    return [function.experimental_get_tracing_count() for function in (step._train, step._infer)]


def _mixed(rows: TrialData) -> dict[str, np.ndarray]:
    """A trial in bfloat16 whose inputs stay on the host, and logits of its weights: float32's and its own."""
    profile = tiny_profile(**{"training.off_the_shelf.epochs": 8})
    placement = Placement(resident_bytes=0)
    bench = Workbench(profile.model, profile.training, numpy_imagenet(), "mixed_bfloat16", placement)
    strategy = strategy_by_name("off-the-shelf")
    result = run_trial(bench, strategy, rows, seed=9)
    ((network, step),) = bench._kept.values()
    network.predictor.set_weights(network.upper.get_weights())
    (activations,) = clean_batch(rows.inputs, rows.test)
    models = {"float32": network.predictor, "own": network.upper}
    logits = {name: np.array(model(activations.astype("float32"), training=False)) for name, model in models.items()}
    return {
        "mixed/losses": np.array([epoch.loss for epoch in result.history]),
        "mixed/probabilities": result.probabilities,
        "mixed/moving_mean": np.array(network.full.get_layer("head_bn").moving_mean),
        "mixed/stays": np.array(step.load(rows.inputs)),
        **{f"mixed/{name}": softmax(values.astype("float64")) for name, values in logits.items()},
    }


def _in_a_loop(profile: Profile, rows: TrialData) -> dict[str, np.ndarray]:
    """The same trial with many steps in one call, as on a GPU, and how often that was compiled."""
    from cxr_platform.training import step_jax

    before, step_jax.gpu_is_visible = step_jax.gpu_is_visible, lambda: True
    try:
        bench = Workbench(profile.model, profile.training, numpy_imagenet())
        result = run_trial(bench, strategy_by_name("off-the-shelf"), rows, seed=9)
        ((_, step),) = bench._kept.values()
        return {"loop/probabilities": result.probabilities, "loop/compilations": np.array(_compilations(step))}
    finally:
        step_jax.gpu_is_visible = before


def _depthwise() -> dict[str, np.ndarray]:
    """Outputs of depthwise convolutions by the network's layer and by Keras' own, in one array per case.

    On JAX followed by the gradients of their squares by inputs and weights, in one vector.
    """
    rng = np.random.default_rng(5)
    outcome = {}
    cases = (("same", 1, 6, 1), ("same", 2, 7, 1), ("same", 2, 6, 1), ("valid", 2, 7, 1), ("valid", 1, 7, 2))
    for padding, strides, side, dilation in cases:
        for dtype in ("float32", "mixed_bfloat16"):
            inputs = rng.normal(2, 3, (2, side, side + 1, 3)).astype("float32")
            weights = [rng.normal(size=(3, 3, 3, 1)), rng.normal(size=3)]
            outputs = []
            for kind in (DepthwiseConv2D, keras.layers.DepthwiseConv2D):
                layer = kind(3, strides, padding, dilation_rate=dilation, activation="relu", dtype=dtype)
                layer.build(inputs.shape)
                layer.set_weights(weights)
                values = [layer(inputs), *_gradients(layer, inputs)]
                outputs.append(np.concatenate([np.asarray(value, "float32").ravel() for value in values]))
            outcome[f"depthwise/{padding}/{strides}/{side}/{dilation}/{dtype}"] = np.stack(outputs)
    return outcome


def _gradients(layer: keras.Layer, inputs: np.ndarray) -> list[Any]:
    if keras.backend.backend() != "jax":
        return []
    import jax

    def loss(inputs: Any, weights: list[Any]) -> Any:
        outputs = layer.stateless_call(weights, [], inputs)[0]
        return keras.ops.sum(keras.ops.square(keras.ops.cast(outputs, "float32")))

    return jax.tree.leaves(jax.grad(loss, (0, 1))(inputs, [v.value for v in layer.trainable_variables]))


def separable_features(data: StudyData, shape: tuple[int, ...] = (1280,)) -> FrozenInputs:
    """Activations in which the classes lie apart, one view; pooled features by default."""
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(7, *shape))
    values = centres[data.labels] + 0.3 * rng.normal(size=(len(data.labels), *shape))
    return FrozenInputs([values[None].astype("float16")])


def _first_steps(bench: Workbench, name: str, inputs: Inputs, data: StudyData, count: int) -> dict[str, np.ndarray]:
    """Losses of `count` steps on one batch, and the moving variance that they left above the last convolution.

    (Its moving mean stays at zero: what comes in is normalised, and a convolution is linear.)
    """
    network, step = bench.set_up(strategy_by_name(name), seed=9)
    rows = data.rows_outside(0)
    step.load(inputs)
    index = inputs.training_index(rows, np.random.default_rng(0))
    labels, ones = data.labels[rows].astype("int32"), np.ones(len(rows), "float32")
    losses, _ = step.train(same_batch(index, labels, ones, count=count))
    step.sync()
    moving_variance = np.array(network.full.get_layer("Conv_1_bn").moving_variance)
    return {f"{name}/losses": losses, f"{name}/moving_variance": moving_variance}


@cache
def numpy_imagenet() -> dict[str, list[np.ndarray]]:
    """Random backbone weights that do not depend on the backend's generator; not to be changed."""
    from cxr_platform.models.initial_weights import set_initial_weights
    from cxr_platform.models.mobilenet import build_network

    network = build_network(strategy_by_name("scratch"), tiny_profile().model)
    set_initial_weights(network, seed=4, imagenet=None)
    return {layer.name: layer.get_weights() for layer in network.full.layers if layer.weights}


if __name__ == "__main__":
    np.savez(sys.argv[1], **probe())
