import keras
import numpy as np
import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.models.mobilenet import build_network
from cxr_platform.models.strategies import strategy_by_name
from cxr_platform.training import step
from tests.training.builders import tiny_profile


def test_the_loss_is_the_weighted_mean_cross_entropy() -> None:
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "float32")
    labels, weights = np.array([0, 2], "int32"), np.array([3.0, 1.0], "float32")
    loss, correct = step.loss_and_correct(logits, labels, weights, 0.0)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -(3 * np.log(probabilities[0, 0]) + np.log(probabilities[1, 2])) / 4
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert int(correct) == 1


def test_label_smoothing_keeps_a_perfect_answer_from_costing_nothing() -> None:
    logits, labels, weights = np.array([[50.0, 0.0]], "float32"), np.array([0], "int32"), np.ones(1, "float32")
    assert float(step.loss_and_correct(logits, labels, weights, 0.0)[0]) == pytest.approx(0, abs=1e-4)
    assert float(step.loss_and_correct(logits, labels, weights, 0.1)[0]) == pytest.approx(2.5, rel=1e-3)


def test_weight_decay_asks_for_adamw_and_none_for_adam() -> None:
    assert type(step.make_optimizer(0.0)) is keras.optimizers.Adam
    assert type(step.make_optimizer(0.01)) is keras.optimizers.AdamW


def test_another_backend_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(strategy_by_name("off-the-shelf"), tiny_profile().model)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ConfigError, match=r"tensorflow or jax.*'torch'"):
        step.make_step(network, 0.0, 0.0)
