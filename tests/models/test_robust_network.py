"""The network of `robust`; that it predicts what its heads do is in tests/training/test_robust_trial.py."""

from pathlib import Path

import keras
import numpy as np
import pytest

from cxr_platform.config import ModelConfig, RobustConfig
from cxr_platform.domain.strategies import ROBUST
from cxr_platform.labels import class_index
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import FrozenBackbone, view_transforms
from cxr_platform.models.mobilenet import Network
from cxr_platform.models.robust_network import build_robust_network, gate_margins, has_gate, indeterminate_answers
from tests.training.builders import SIDE, live_imagenet, tiny_profile

PROFILE = tiny_profile()
TWO_VIEWS = RobustConfig(views=("whole", "lungs"))
COVID19, NORMAL = class_index("Covid19"), class_index("Normal")


def network(config: RobustConfig = TWO_VIEWS) -> Network:
    """The network with random heads."""
    made = build_robust_network(PROFILE.model, config, live_imagenet(PROFILE))
    head, rng = made.full.get_layer("head_logits"), np.random.default_rng(1)
    head.set_weights([rng.normal(0, 0.05, array.shape).astype("float32") for array in head.get_weights()])
    return made


def views(count: int = 3) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 255, (count, 2, SIDE, SIDE), "uint8")


def logits_of(made: Network, images: np.ndarray) -> np.ndarray:
    batch = keras.ops.reshape(to_network_input(images.reshape(-1, SIDE, SIDE)), (*images.shape, 3))
    return np.asarray(keras.ops.convert_to_numpy(made.full(batch)))


def test_both_views_go_through_one_frozen_backbone() -> None:
    made, images = network(), views()
    backbone = FrozenBackbone(("views",), PROFILE.model, live_imagenet(PROFILE))
    clean = view_transforms(6, SIDE, PROFILE.augmentation, 0)[0]
    features = backbone.activations(images.reshape(-1, SIDE, SIDE), clean)["views"].reshape(3, -1)
    assert features.std() > 0.1
    expected = keras.ops.convert_to_numpy(made.upper(features.astype("float32")))
    np.testing.assert_allclose(logits_of(made, images), expected, atol=0.02)  # activations have 16 bits
    assert (made.strategy.name, made.trained_layers) == (ROBUST, ["head_logits"])
    assert not np.allclose(logits_of(made, images[:, ::-1]), logits_of(made, images), atol=0.1)


def test_a_margin_lowers_the_odds_of_covid19_against_all_others_and_nothing_else() -> None:
    plain, careful = (
        logits_of(network(RobustConfig(views=TWO_VIEWS.views, against="normal", margin=margin)), views())
        for margin in (0.0, 2.0)
    )
    np.testing.assert_allclose((plain - careful)[:, COVID19], 2.0, atol=1e-4)
    np.testing.assert_allclose(np.delete(plain, COVID19, axis=1), np.delete(careful, COVID19, axis=1), atol=1e-5)


def test_weights_of_the_whole_network_and_of_its_head_are_kept_in_files(tmp_path: Path) -> None:
    made, images = network(), views()
    made.full.save_weights(tmp_path / "full.weights.h5")
    made.upper.save_weights(tmp_path / "upper.weights.h5")
    whole = build_robust_network(PROFILE.model, TWO_VIEWS)
    whole.full.load_weights(tmp_path / "full.weights.h5")
    head = build_robust_network(PROFILE.model, TWO_VIEWS, live_imagenet(PROFILE))
    head.upper.load_weights(tmp_path / "upper.weights.h5")
    for again in (whole, head):
        np.testing.assert_allclose(logits_of(again, images), logits_of(made, images), atol=1e-5)
    assert (tmp_path / "upper.weights.h5").stat().st_size < (tmp_path / "full.weights.h5").stat().st_size / 10


def test_weights_of_one_head_do_not_fit_two(tmp_path: Path) -> None:
    network().upper.save_weights(tmp_path / "upper.weights.h5")
    gated = build_robust_network(ModelConfig(input_size=SIDE), RobustConfig(views=TWO_VIEWS.views, gate=True))
    with pytest.raises(ValueError, match="head_logits"), pytest.warns(UserWarning, match="no matching group"):
        gated.upper.load_weights(tmp_path / "upper.weights.h5")


def test_answers_are_indeterminate_where_the_first_head_alone_names_covid19() -> None:
    gated = network(RobustConfig(views=TWO_VIEWS.views, gate=True))
    features = np.random.default_rng(3).normal(0, 1, (200, gated.upper.input_shape[1])).astype("float32")
    kernel, bias, *_ = gated.full.get_layer("head_logits").get_weights()
    first = network()
    first.full.get_layer("head_logits").set_weights([kernel, bias])
    alone, together = (keras.ops.convert_to_numpy(made.upper(features)).argmax(axis=1) for made in (first, gated))
    expected = (alone == COVID19) & (together != COVID19)
    assert 0 < expected.sum() < 200
    np.testing.assert_array_equal(indeterminate_answers(gated, features), expected)
    assert (has_gate(gated), has_gate(first)) == (True, False)


def test_margins_at_the_gate_have_the_signs_of_what_is_named_before_and_behind_it() -> None:
    gated = network(RobustConfig(views=TWO_VIEWS.views, gate=True))
    features = np.random.default_rng(3).normal(0, 1, (200, gated.upper.input_shape[1])).astype("float32")
    first, behind = gate_margins(gated, features).T
    assert (behind <= first + 1e-6).all()
    np.testing.assert_array_equal(indeterminate_answers(gated, features), (first > 0) & (behind < 0))
