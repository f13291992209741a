"""Two devices train as one does. In a process of their own per backend: devices and backend are chosen once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY

Found = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def one_and_two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found]:
    file: Path = tmp_path_factory.mktemp(request.param) / "probe.npz"
    environment = {**os.environ, "KERAS_BACKEND": request.param, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.training.devices_probe", str(file)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(np.load(file))
    one, two = (
        {name.removeprefix(f"{devices} "): array for name, array in found.items() if name.startswith(f"{devices} ")}
        for devices in (1, 2)
    )
    return one, two


def test_both_devices_take_part(one_and_two: tuple[Found, Found]) -> None:
    assert [int(result["devices"]) for result in one_and_two] == [1, 2]


def test_a_batch_that_leaves_a_device_fewer_than_16_images_or_is_odd_uses_one(one_and_two: tuple[Found, Found]) -> None:
    assert one_and_two[1]["usable"].tolist() == [1, 2, 1]


def test_gradients_and_batch_statistics_are_those_of_the_whole_weighted_batch(one_and_two: tuple[Found, Found]) -> None:
    """After one step Adam's first moment is a tenth of the gradient."""
    one, two = one_and_two
    for name in (name for name in one if name.startswith(("kept/", "optimizer/"))):
        assert np.abs(one[name] - two[name]).max() <= 1e-4 * np.abs(one[name]).max() + 1e-7, name


def test_losses_and_predictions_of_later_steps_agree(one_and_two: tuple[Found, Found]) -> None:
    one, two = one_and_two
    assert one["correct"] == two["correct"]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3)
    assert one["losses"][-1] < 0.5 * one["losses"][0]
    assert np.abs(one["logits"] - two["logits"]).max() < 1e-2


def test_a_restored_state_continues_as_before(one_and_two: tuple[Found, Found]) -> None:
    for result in one_and_two:
        assert (result["again"] == result["losses"][1:]).all()


def test_dropout_masks_differ_between_devices(one_and_two: tuple[Found, Found]) -> None:
    _, two = one_and_two
    if "seeds" not in two:
        return  # on JAX one mask is drawn for the whole batch
    (first, counter), (second, other) = two["seeds"].tolist()
    assert first == 9
    assert second != first
    assert counter == other == 2
