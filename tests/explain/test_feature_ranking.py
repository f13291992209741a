"""Ranking and matching of planted features, and the features of a network."""

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_platform.explain.feature_ranking import (
    best_separated_source,
    class_aucs,
    is_matched,
    penultimate,
    random_half,
    top_features,
)
from cxr_platform.models.augment import to_network_input
from tests.explain.backend_probe import images, network

COUNT, FEATURES = 200, 50


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(COUNT) % 2 * 6


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(COUNT, FEATURES)).astype("float32")


def test_the_logits_are_computed_from_the_features() -> None:
    features, head = penultimate(network(), images()), network().full.get_layer("head_logits")
    kernel, bias = (np.asarray(weight) for weight in head.weights)
    logits = np.asarray(network().full(to_network_input(images()), training=False))
    assert features @ kernel + bias == pytest.approx(logits, abs=1e-3 * np.abs(logits).max())


def test_features_of_several_batches_are_in_the_order_of_the_images() -> None:
    many = np.concatenate([images()] * 8)
    assert penultimate(network(), many) == pytest.approx(
        np.concatenate([penultimate(network(), images())] * 8), abs=1e-3
    )


def test_class_aucs_are_areas_under_the_roc_curve_also_with_ties(noise: np.ndarray, labels: np.ndarray) -> None:
    features = np.round(noise[:, :3], 0)
    expected = [roc_auc_score(labels == 6, column) for column in features.T]
    assert class_aucs(features, labels)[6] == pytest.approx(expected)


def test_too_few_images_give_no_auc(noise: np.ndarray) -> None:
    classes = np.array(["many"] * (COUNT - 2) + ["few"] * 2)
    assert np.isnan(class_aucs(noise, classes)["few"]).all()


def test_a_planted_feature_is_ranked_first_and_separates_the_other_half(noise: np.ndarray, labels: np.ndarray) -> None:
    noise[:, 7] += 3 * (labels == 6)
    (of_zero, of_six) = top_features(noise, labels, np.arange(COUNT) % 4 < 2, 1)
    assert (of_six.label, of_six.feature) == (6, 7)
    assert of_six.auc_held > 0.95
    assert of_zero.feature != 7  # it is low for the other class


def test_auc_on_the_other_half_is_not_inflated_by_the_selection(labels: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(size=(COUNT, 2000))
    top = top_features(noise, labels, np.arange(COUNT) % 4 < 2, 5)
    assert np.mean([ranked.auc_chosen for ranked in top]) > 0.65
    assert np.mean([ranked.auc_held for ranked in top]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("sign", "aucs"), [(1, 0.9), (-1, 0.1)])
def test_a_feature_is_matched_with_either_sign(noise: np.ndarray, sign: int, aucs: float) -> None:
    others = noise.copy()
    others[:, 3] = sign * (noise[:, 0] + 0.2 * noise[:, 1])
    others[:, 0] = noise[::-1, 0]
    areas = np.full(FEATURES, 0.5)
    areas[3] = aucs
    assert is_matched(noise[:, 0], others, 0.92, areas)
    areas[3] = 0.8 if sign > 0 else 0.2
    assert not is_matched(noise[:, 0], others, 0.92, areas)  # alike, but it separates less well


def test_an_uncorrelated_feature_is_not_matched(noise: np.ndarray) -> None:
    assert not is_matched(noise[:, 0], noise[::-1], 0.5, np.full(FEATURES, 0.5))


def test_a_constant_feature_is_not_matched(noise: np.ndarray) -> None:
    assert not is_matched(np.zeros(COUNT), noise, 0.5, np.full(FEATURES, 0.5))


def test_all_images_of_a_group_are_in_the_same_half() -> None:
    groups = np.arange(COUNT) // 3
    half = random_half(groups, 3)
    assert all(len(set(half[groups == group])) == 1 for group in np.unique(groups))
    assert 0.4 < half.mean() < 0.6
    assert (half != random_half(groups, 4)).any()


def test_the_best_separated_source_is_that_with_the_highest_values(noise: np.ndarray) -> None:
    sources = ["east" if number % 3 else "west" for number in range(COUNT)]
    feature = noise[:, 0] + 4 * (np.array(sources) == "west")
    assert best_separated_source(feature, sources) == ("west", pytest.approx(1, abs=0.02))
    assert best_separated_source(feature, ["one"] * COUNT) is None


def test_the_feature_model_shares_the_layers_of_the_network() -> None:
    before = penultimate(network(), images())
    layer: keras.layers.Layer = network().full.get_layer("head_dense")
    kept = layer.get_weights()
    layer.set_weights([2 * weight for weight in kept])
    try:
        assert np.abs(penultimate(network(), images()) - before).max() > 0.01
    finally:
        layer.set_weights(kept)
