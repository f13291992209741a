"""Heatmaps of a small network with random weights; tests/evidence/test_explanations.py has them on planted signs."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.explain import saliency
from cxr_platform.explain.saliency import (
    LAYERS,
    LOGITS,
    _layer_maps,
    _multiplied,
    feature_heatmaps,
    heatmaps,
    place_evidence,
    segments,
)
from cxr_platform.labels import CLASSES
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH
from tests.conftest import REPOSITORY
from tests.explain.backend_probe import TARGETS, images, network
from tests.training.builders import SIDE


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    return heatmaps(network(), images(), TARGETS)


def test_each_map_is_a_quarter_of_the_image_side_and_has_a_maximum_of_one(maps: np.ndarray) -> None:
    assert maps.shape == (len(TARGETS), SIDE // 4, SIDE // 4)
    assert maps.dtype == np.float32
    assert maps.min() == 0
    assert maps.max(axis=(1, 2)) == pytest.approx(1)


def test_maps_of_different_classes_differ(maps: np.ndarray) -> None:
    others = heatmaps(network(), images(), (TARGETS + 1) % len(CLASSES))
    assert (np.abs(others - maps).max(axis=(1, 2)) > 0.1).all()


def test_a_map_does_not_depend_on_the_other_images_of_a_batch(maps: np.ndarray) -> None:
    many, targets = np.concatenate([images()] * 8), np.tile(TARGETS, 8)
    assert heatmaps(network(), many, targets) == pytest.approx(np.concatenate([maps] * 8), abs=1e-3)


def test_a_single_image_is_not_padded_to_a_batch(maps: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    layer_maps, batch_sizes = _layer_maps(network(), LOGITS), []

    def recorded(inputs: np.ndarray, weights: np.ndarray) -> Sequence[Any]:
        batch_sizes.append(len(inputs))
        return layer_maps(inputs, weights)

    monkeypatch.setattr(saliency, "_layer_maps", lambda *_: recorded)
    assert heatmaps(network(), images()[:1], TARGETS[:1]) == pytest.approx(maps[:1], abs=1e-3)
    heatmaps(network(), np.resize(images(), (BATCH + 1, SIDE, SIDE)), np.resize(TARGETS, BATCH + 1))
    assert batch_sizes == [1, BATCH, BATCH]


def test_no_images_give_no_maps() -> None:
    assert heatmaps(network(), images()[:0], TARGETS[:0]).shape == (0, SIDE // 4, SIDE // 4)


def test_the_segments_in_sequence_give_the_output_of_the_network() -> None:
    value = inputs = to_network_input(images())
    for segment in segments(network(), LOGITS):
        value = segment(value, training=False)
    whole = np.asarray(network().full(inputs, training=False))
    assert np.abs(whole).max() > 0.1
    assert np.asarray(value) == pytest.approx(whole, abs=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_map_is_gradient_times_activation_beyond_the_mean(layer: str) -> None:
    tf = pytest.importorskip("tensorflow", reason="computes the gradient in another way, with TensorFlow")
    model, inputs = network().full, to_network_input(images())
    below = keras.Model(model.input, model.get_layer(layer).output)
    above = keras.Model(model.get_layer(layer).output, model.output)
    weights = np.eye(len(CLASSES), dtype="float32")[TARGETS]
    activation = below(inputs, training=False)
    with tf.GradientTape() as tape:
        tape.watch(activation)
        score = tf.reduce_sum(above(activation, training=False) * weights)
    gradient, activation = tape.gradient(score, activation).numpy(), activation.numpy()
    expected = np.maximum(((activation - activation.mean(axis=(1, 2), keepdims=True)) * gradient).sum(axis=-1), 0)

    layer_map = _layer_maps(network(), LOGITS)(np.asarray(inputs), weights)[LAYERS.index(layer)]

    assert expected.max() > 0
    assert np.asarray(layer_map) == pytest.approx(expected, rel=1e-3, abs=1e-4 * expected.max())


def test_a_uniform_activation_gives_an_empty_map() -> None:
    even = np.ones((1, 4, 4, 3), "float32")
    assert not np.asarray(place_evidence(even, np.ones_like(even))).any()


def test_maps_follow_changed_weights(maps: np.ndarray) -> None:
    layer = network().full.get_layer("head_logits")
    kept = layer.get_weights()
    layer.set_weights([-kept[0], kept[1]])
    try:
        assert (np.abs(heatmaps(network(), images(), TARGETS) - maps).max(axis=(1, 2)) > 0.1).all()
    finally:
        layer.set_weights(kept)


def test_the_map_of_a_feature_differs_from_that_of_a_class(maps: np.ndarray) -> None:
    of_features = feature_heatmaps(network(), images(), np.zeros(len(TARGETS), int))
    assert of_features.shape == maps.shape
    assert np.abs(of_features - maps).max() > 0.1


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.0])
def test_a_layer_map_that_is_zero_or_not_finite_gives_a_map_of_zeros(value: float) -> None:
    maps = [np.ones((2, side, side), "float32") for side in (8, 4, 2)]
    maps[1][0] = value
    multiplied = _multiplied(maps)
    assert not multiplied[0].any()
    assert (multiplied[1] == 1).all()


def test_an_unknown_backend_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    _layer_maps.cache_clear()
    with pytest.raises(ConfigError, match="torch"):
        heatmaps(network(), images(), TARGETS)


def test_both_backends_give_the_same_maps(maps: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "maps.npy"  # from another process: Keras chooses its backend once, at import
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tests.explain.backend_probe", str(file)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert maps.std() > 0.05  # there is something to compare
    assert np.abs(np.load(file) - maps).max() < 0.02
