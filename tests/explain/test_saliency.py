"""The maps of a small network of random weights; tests/evidence/test_explanations.py has them on planted signs."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_platform.errors import ConfigError
from cxr_platform.explain import saliency
from cxr_platform.explain.saliency import (
    LAYERS,
    LOGITS,
    _multiplied,
    _places,
    evidence_of_place,
    feature_heatmaps,
    heatmaps,
    segments,
)
from cxr_platform.labels import CLASSES
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH
from tests.explain.backend_probe import TARGETS, images, network
from tests.training.builders import SIDE


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    return heatmaps(network(), images(), TARGETS)


def test_each_image_has_a_map_a_quarter_of_its_side_with_a_greatest_value_of_one(maps: np.ndarray) -> None:
    assert maps.shape == (len(TARGETS), SIDE // 4, SIDE // 4)
    assert maps.dtype == np.float32
    assert maps.min() == 0
    assert maps.max(axis=(1, 2)) == pytest.approx(1)


def test_another_class_has_another_map(maps: np.ndarray) -> None:
    others = heatmaps(network(), images(), (TARGETS + 1) % len(CLASSES))
    assert (np.abs(others - maps).max(axis=(1, 2)) > 0.1).all()


def test_an_image_has_the_same_map_alone_and_among_more_than_a_batch_of_images(maps: np.ndarray) -> None:
    many, targets = np.concatenate([images()] * 8), np.tile(TARGETS, 8)
    assert heatmaps(network(), many, targets) == pytest.approx(np.concatenate([maps] * 8), abs=1e-3)


def test_one_image_costs_no_more_than_one_image(maps: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    places, computed = _places(network(), LOGITS), []

    def noted(inputs: np.ndarray, weights: np.ndarray) -> Sequence[Any]:
        computed.append(len(inputs))
        return places(inputs, weights)

    monkeypatch.setattr(saliency, "_places", lambda *_: noted)
    assert heatmaps(network(), images()[:1], TARGETS[:1]) == pytest.approx(maps[:1], abs=1e-3)
    heatmaps(network(), np.resize(images(), (BATCH + 1, SIDE, SIDE)), np.resize(TARGETS, BATCH + 1))
    assert computed == [1, BATCH, BATCH]


def test_no_images_have_no_maps() -> None:
    assert heatmaps(network(), images()[:0], TARGETS[:0]).shape == (0, SIDE // 4, SIDE // 4)


def test_the_segments_joined_are_the_network() -> None:
    value = inputs = to_network_input(images())
    for segment in segments(network(), LOGITS):
        value = segment(value, training=False)
    whole = np.asarray(network().full(inputs, training=False))
    assert np.abs(whole).max() > 0.1
    assert np.asarray(value) == pytest.approx(whole, abs=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("layer", LAYERS)
def test_a_place_counts_by_its_gradient_times_what_it_has_beyond_the_mean(layer: str) -> None:
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

    found = _places(network(), LOGITS)(np.asarray(inputs), weights)[LAYERS.index(layer)]

    assert expected.max() > 0
    assert np.asarray(found) == pytest.approx(expected, rel=1e-3, abs=1e-4 * expected.max())


def test_what_all_places_have_points_nowhere() -> None:
    even = np.ones((1, 4, 4, 3), "float32")
    assert not np.asarray(evidence_of_place(even, np.ones_like(even))).any()


def test_weights_that_change_are_seen(maps: np.ndarray) -> None:
    layer = network().full.get_layer("head_logits")
    kept = layer.get_weights()
    layer.set_weights([-kept[0], kept[1]])
    try:
        assert (np.abs(heatmaps(network(), images(), TARGETS) - maps).max(axis=(1, 2)) > 0.1).all()
    finally:
        layer.set_weights(kept)


def test_a_feature_has_a_map_of_its_own(maps: np.ndarray) -> None:
    of_features = feature_heatmaps(network(), images(), np.zeros(len(TARGETS), int))
    assert of_features.shape == maps.shape
    assert np.abs(of_features - maps).max() > 0.1


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.0])
def test_an_image_whose_gradients_are_not_finite_or_zero_has_a_map_of_zeros(value: float) -> None:
    maps = [np.ones((2, side, side), "float32") for side in (8, 4, 2)]
    maps[1][0] = value
    multiplied = _multiplied(maps)
    assert not multiplied[0].any()
    assert (multiplied[1] == 1).all()


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    _places.cache_clear()
    with pytest.raises(ConfigError, match="torch"):
        heatmaps(network(), images(), TARGETS)
