import numpy as np
import pytest

from cxr_platform.config import Precision
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.models.initial_weights import set_initial_weights
from cxr_platform.models.mobilenet import build_network
from cxr_platform.training.inputs import FrozenInputs
from cxr_platform.training.step_tensorflow import TensorFlowStep
from tests.training.builders import random_imagenet, same_batch, tiny_profile


@pytest.fixture(scope="module")
def step() -> TensorFlowStep:
    profile = tiny_profile()
    network = build_network(strategy_by_name("off-the-shelf"), profile.model)
    set_initial_weights(network, 5, random_imagenet(profile))
    return TensorFlowStep(network, weight_decay=0.0, label_smoothing=0.0)


def losses(step: TensorFlowStep, count: int = 4) -> list[float]:
    rng = np.random.default_rng(0)
    step.load(FrozenInputs([rng.normal(size=(1, 8, 1280)).astype("float16")]))
    labels, weights = np.arange(8, dtype="int32") % 7, np.ones(8, "float32")
    return list(map(float, step.train(same_batch((np.arange(8, dtype="int32"),), labels, weights, count=count))[0]))


def test_after_a_reset_the_same_steps_give_the_same_losses_without_tracing(step: TensorFlowStep) -> None:
    imagenet = random_imagenet(tiny_profile())
    runs = []
    for _ in range(3):
        set_initial_weights(step._network, 5, imagenet)
        step.reset()
        runs.append(losses(step))
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][-1] < runs[0][0]
    assert step._train.experimental_get_tracing_count() == 1


def test_a_learning_rate_of_zero_changes_no_weight(step: TensorFlowStep) -> None:
    kernel = step._network.full.get_layer("head_logits").kernel
    before = kernel.numpy().copy()
    step.load(FrozenInputs([np.ones((1, 8, 1280), "float16")]))
    index = (np.arange(8, dtype="int32"),)
    step.train(same_batch(index, np.zeros(8, "int32"), np.ones(8, "float32"), rate=0.0))
    assert (kernel.numpy() == before).all()


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_step_learns(precision: Precision) -> None:
    profile = tiny_profile()
    network = build_network(strategy_by_name("off-the-shelf"), profile.model, precision)
    set_initial_weights(network, 5, random_imagenet(profile))
    step = TensorFlowStep(network, weight_decay=0.0, label_smoothing=0.0)
    step.reset()
    values = losses(step)
    assert np.isfinite(values).all()
    assert values[-1] < values[0]
