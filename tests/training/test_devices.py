import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

from cxr_platform.config import ResourcesConfig
from cxr_platform.errors import ConfigError
from cxr_platform.training import devices


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU of 8 GiB, as its driver's tool reports it."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 8192\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_without_a_gpu_a_trial_reserves_none() -> None:
    assert devices.gpu_share(ResourcesConfig(), gpus=0, processors=2, gpu_gib=0.0, trials=8) == 0


def test_a_stated_fraction_is_taken_as_it_is() -> None:
    assert devices.gpu_share(ResourcesConfig(gpu=0.5), gpus=4, processors=64, gpu_gib=8, trials=8) == 0.5


def test_an_8_gib_gpu_holds_three_trials_when_the_processors_can_feed_them() -> None:
    share = devices.gpu_share(ResourcesConfig(cpu=2), gpus=1, processors=16, gpu_gib=8, trials=8)
    assert share == 0.3333
    assert devices.gpu_share(ResourcesConfig(cpu=8), gpus=1, processors=16, gpu_gib=8, trials=8) == 0.5


@pytest.mark.parametrize(("trials", "share"), [(3, 1.0), (4, 1.0), (8, 0.5), (80, 0.3333)])
def test_a_gpu_is_shared_only_when_every_gpu_has_a_trial(trials: int, share: float) -> None:
    assert devices.gpu_share(ResourcesConfig(), gpus=4, processors=64, gpu_gib=8, trials=trials) == share


@pytest.mark.parametrize(
    ("batch_size", "input_size", "share"), [(32, 200, 0.3333), (128, 200, 1.0), (64, 200, 1.0), (64, 96, 0.3333)]
)
def test_larger_batches_of_larger_images_leave_room_for_fewer_trials(
    batch_size: int, input_size: int, share: float
) -> None:
    gib = devices.gib_of_trial(batch_size, input_size)
    assert devices.gpu_share(ResourcesConfig(), gpus=1, processors=64, gpu_gib=8, trials=80, trial_gib=gib) == share


@pytest.fixture
def asked_again() -> Iterator[None]:
    devices.backend_sees_gpu.cache_clear()
    yield
    devices.backend_sees_gpu.cache_clear()


@pytest.mark.usefixtures("asked_again")
def test_another_process_says_whether_the_backend_sees_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # also on a machine with one
    assert not devices.backend_sees_gpu()


@pytest.mark.usefixtures("asked_again")
@pytest.mark.parametrize(
    ("script", "seen"), [("echo a line; echo True", True), ("echo False", False), ("echo no CUDA >&2; exit 1", None)]
)
def test_a_backend_that_cannot_be_asked_is_no_machine_without_a_gpu(
    script: str, seen: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(devices.sys, "executable", str(python))
    if seen is None:
        with pytest.raises(ConfigError, match=r"whether it sees a GPU\. Received: no CUDA"):
            devices.backend_sees_gpu()
    else:
        assert devices.backend_sees_gpu() == seen


@pytest.mark.parametrize(
    ("limit", "used", "stat", "free"),
    [
        ("1000000", "900000", "anon 100000\ninactive_file 700000", 800_000),
        ("1000000", "1200000", "inactive_file 100000", 0),
        ("max", "900000", "inactive_file 700000", None),
        ("1000000", "900000", "anon 100000", None),
    ],
)
def test_files_that_a_container_holds_in_memory_count_as_free(
    limit: str, used: str, stat: str, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("memory.max", limit), ("memory.current", used), ("memory.stat", stat)):
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    available = devices.available_memory()
    assert available == free if free is not None else available > 1_000_000, "that of the machine"


def test_fractions_of_a_processor_are_not_lost_to_rounding() -> None:
    assert devices.gpu_share(ResourcesConfig(cpu=0.1), gpus=1, processors=1.0, gpu_gib=80, trials=80) == 0.1


@pytest.mark.usefixtures("gpu")
def test_memory_and_name_of_the_gpu_come_from_nvidia_smi() -> None:
    assert devices.gpu_memory_gib() == 8
    assert devices.hardware().gpus == ("8192",)


def test_a_process_asks_for_the_gpus_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, calls = tmp_path / "nvidia-smi", tmp_path / "calls"
    tool.write_text(f"#!/bin/sh\necho $1 >> {calls}\necho H100\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert devices.hardware().gpus == devices.hardware().gpus == ("H100",)
    assert calls.read_text().splitlines() == ["--query-gpu=name"]


@pytest.mark.usefixtures("gpu")
def test_jax_takes_three_quarters_of_its_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for name in ("XLA_PYTHON_CLIENT_MEM_FRACTION", "PJRT_NPROC", "NPROC"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    devices.limit_process(2.5, 0.25, deterministic=False)
    assert os.environ["PJRT_NPROC"] == os.environ["NPROC"] == "2"
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.188"  # 0.75 / 4


def test_a_backend_without_a_training_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ConfigError, match="tensorflow or jax"):
        devices.keras_backend()


def test_a_backend_that_is_not_installed_is_an_error_that_names_both_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(ConfigError, match=r"KERAS_BACKEND is tensorflow.*make setup STACK=jax"):
        devices.keras_backend()


def test_the_versions_of_python_and_of_the_libraries_are_recorded() -> None:
    assert {"python", "keras", keras.backend.backend(), "ray"} <= devices.package_versions().keys()


def test_the_processor_of_this_machine_is_recorded() -> None:
    result = devices.hardware()
    assert result.processors is not None
    assert result.processors >= 1


@pytest.mark.parametrize(
    ("capability", "gpus", "expected"),
    [("9.0", 1.0, "mixed_bfloat16"), ("7.5", 0.5, "mixed_float16"), ("6.1", 1.0, "float32"), ("9.0", 0.0, "float32")],
)
def test_the_precision_follows_the_generation_of_the_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: str, gpus: float, expected: str
) -> None:
    monkeypatch.setattr(devices, "_query_gpus", lambda _question: [capability])
    assert devices.precision_on("auto", gpus) == expected
    assert devices.precision_on("mixed_float16", gpus) == "mixed_float16"


def test_results_repeat_without_a_gpu_unless_the_profile_says_otherwise() -> None:
    assert devices.is_deterministic(ResourcesConfig(), gpus=0)
    assert not devices.is_deterministic(ResourcesConfig(), gpus=0.25)
    assert devices.is_deterministic(ResourcesConfig(deterministic=True), gpus=1)
    assert not devices.is_deterministic(ResourcesConfig(deterministic=False), gpus=0)


def test_the_inputs_of_a_trial_get_a_share_of_its_part_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_memory_gib", lambda: 24.0)
    assert devices.resident_bytes(0.5) == pytest.approx(0.4 * 11.4 * 2**30)
    assert devices.resident_bytes(4.0) == pytest.approx(0.4 * 23.4 * 2**30)
    assert devices.resident_bytes(0.0) is None


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("gpus", [0.25, 1.0])
def test_twice_the_inputs_fit_into_what_jax_may_use(gpus: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    whole = devices.gpu_memory_gib()
    inputs = devices.resident_bytes(gpus)
    assert whole is not None
    assert inputs is not None
    assert inputs == pytest.approx(0.4 * 0.75 * gpus * whole * 2**30)
    assert 2 * inputs < devices.JAX_SHARE * gpus * whole * 2**30
