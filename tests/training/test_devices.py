import stat
from pathlib import Path

import pytest

from cxr_platform.config import ResourcesConfig
from cxr_platform.training import devices


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one card of 8 GiB, as its driver's tool reports it."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 8192\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_without_a_card_a_trial_reserves_none() -> None:
    assert devices.gpu_share(ResourcesConfig(), gpus_in_cluster=0, cpus_in_cluster=2) == 0


def test_a_stated_fraction_is_taken_as_it_is() -> None:
    assert devices.gpu_share(ResourcesConfig(gpu=0.5), gpus_in_cluster=4, cpus_in_cluster=64) == 0.5


@pytest.mark.usefixtures("card")
def test_an_8_gib_card_holds_three_trials_when_the_processors_can_feed_them() -> None:
    assert devices.card_memory_gib() == 8
    assert devices.gpu_share(ResourcesConfig(cpu=2), 1, 16) == pytest.approx(1 / 3)
    assert devices.gpu_share(ResourcesConfig(cpu=8), 1, 16) == pytest.approx(1 / 2)


def test_jax_is_told_its_share_before_it_looks_for_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    devices.limit_process(1, 0.25)
    import os

    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.225"
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION")
