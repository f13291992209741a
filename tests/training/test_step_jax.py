"""The same trials on both backends. JAX runs in a process of its own: Keras chooses its backend once, at import."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.backend_probe import probe

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    file = tmp_path_factory.mktemp("jax") / "probe.npz"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tests.training.backend_probe", str(file)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(file))


@pytest.fixture(scope="module")
def on_tensorflow() -> dict[str, np.ndarray]:
    return probe()


@pytest.mark.parametrize("strategy", ["fine-tuning-1", "scratch"])
def test_the_first_steps_have_the_losses_and_statistics_of_tensorflow(
    strategy: str, on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    assert on_jax[f"{strategy}/losses"] == pytest.approx(on_tensorflow[f"{strategy}/losses"], rel=1e-2)
    expected = on_tensorflow[f"{strategy}/moving_variance"]
    assert np.abs(expected - 1).max() > 0.05  # one is where it starts
    assert np.abs(on_jax[f"{strategy}/moving_variance"] - expected).max() < 0.02 * np.abs(expected).max()


def test_depthwise_convolutions_and_their_gradients_are_keras_own_but_for_rounding(
    on_jax: dict[str, np.ndarray],
) -> None:
    cases = {name: outputs for name, outputs in on_jax.items() if name.startswith("depthwise/")}
    assert len(cases) == 10
    for name, (own, keras_own) in cases.items():
        rounding = 0.01 if "bfloat16" in name else 1e-5
        assert np.abs(own - keras_own).max() < rounding * np.abs(keras_own).max(), name
    usual = [own for name, own in cases.items() if "/1/float32" in name]
    assert len(usual) == 4
    assert any((own != keras_own).any() for own, keras_own in usual), "computed in another way"


def test_on_tensorflow_depthwise_convolutions_are_keras_own(on_tensorflow: dict[str, np.ndarray]) -> None:
    cases = [outputs for name, outputs in on_tensorflow.items() if name.startswith("depthwise/")]
    assert len(cases) == 10
    assert all((own == keras_own).all() for own, keras_own in cases)


def test_many_steps_in_one_call_as_on_a_gpu_give_the_same_result(on_jax: dict[str, np.ndarray]) -> None:
    assert np.abs(on_jax["loop/probabilities"] - on_jax["probabilities"]).max() < 1e-4
    assert list(on_jax["loop/compilations"]) == [1, 1]


def test_several_steps_of_a_trained_block_lower_the_loss(on_jax: dict[str, np.ndarray]) -> None:
    assert on_jax["fine-tuning-1/losses"][-1] < on_jax["fine-tuning-1/losses"][0]


def test_the_same_trial_gives_the_same_probabilities_on_both_backends(
    on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    assert np.allclose(on_jax["probabilities"].sum(axis=1), 1, atol=1e-5)
    assert np.abs(on_jax["probabilities"] - on_tensorflow["probabilities"]).max() < 0.02
    assert on_jax["losses"] == pytest.approx(on_tensorflow["losses"], rel=0.05)
    assert on_jax["losses"][-1] < 0.5 * on_jax["losses"][0]


def test_on_jax_the_same_trial_gives_the_same_result(on_jax: dict[str, np.ndarray]) -> None:
    assert (on_jax["probabilities"] == on_jax["again"]).all()


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_trial_in_16_bits_learns_and_predicts_in_float32(
    backend: str, on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    result = on_jax if backend == "jax" else on_tensorflow
    assert result["mixed/losses"][-1] < 0.5 * result["mixed/losses"][0]
    rounding = np.abs(result["mixed/own"] - result["mixed/float32"]).max()
    assert rounding > 1e-4
    assert np.abs(result["mixed/probabilities"] - result["mixed/float32"]).max() < 0.05 * rounding


def test_batch_statistics_and_inputs_on_the_host_are_the_same_in_16_bits_on_both_backends(
    on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    for result in (on_jax, on_tensorflow):
        bits = result["mixed/moving_mean"].view("uint32")
        assert (bits & 0xFFFF).any()  # not rounded to bfloat16
        assert not result["mixed/stays"]


def test_a_strategy_is_compiled_once_for_all_folds(
    on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    assert on_jax["compilations"].tolist() == on_tensorflow["compilations"].tolist() == [1, 1]


def test_on_jax_trained_weights_are_written_into_the_network(
    on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    assert np.abs(on_jax["kernel"] - on_tensorflow["kernel"]).max() < 0.02
