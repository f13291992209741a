"""Processors and GPUs: how many a trial reserves, how a process is limited to them, and what this machine has."""

import contextlib
import functools
import math
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal

from cxr_platform.config import Precision, ResourcesConfig
from cxr_platform.domain.study import Hardware
from cxr_platform.errors import ConfigError, NotPossible, last_line

REPORTED_PACKAGES = ("keras", "tensorflow", "jax", "ray", "numpy", "scikit-learn", "pyarrow", "cxr-platform")

GIB_PER_TRIAL = 2.5
"""GPU memory of one trial at 200 px and batch size 32 in float32, with its context. An estimate with a margin."""

GIB_PER_CONTEXT = 0.6
"""GPU memory of a process before TensorFlow allocates any; the framework's limit does not count it."""

JAX_SHARE = 0.75
"""What JAX takes of a process's part of a GPU's memory, as it does of a whole GPU by default
(https://docs.jax.dev/en/latest/gpu_memory_allocation.html). Its compiled kernels and NVIDIA's libraries need the rest:
eight processes with MPS that took 0.97 of their parts of an H200 failed for want of memory
(docs/results/2026-11-28-gpu.md)."""


RESIDENT_SHARE = 0.4
"""Share of the GPU memory that the framework may use that the inputs of a trial may take; larger ones are gathered on
the host. While they are joined, before the first step, they take twice as much."""


CGROUP = Path("/sys/fs/cgroup")


def keras_backend() -> str:
    """Return the backend of Keras; raise `ConfigError` if it is not installed or has no training step here."""
    try:
        import keras
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Expected Keras and the package of its backend to be installed.",
            received=f"{error} (KERAS_BACKEND is {os.environ.get('KERAS_BACKEND', 'not set')})",
            advice="Unset KERAS_BACKEND, or install that stack: make setup, or make setup STACK=jax.",
        ) from error

    name: str = keras.backend.backend()
    if name not in ("tensorflow", "jax"):
        raise ConfigError("Expected KERAS_BACKEND to be tensorflow or jax.", received=repr(name))
    return name


def gib_of_trial(batch_size: int, input_size: int = 200, precision: str = "float32") -> float:
    """Return the GPU memory of a trial in GiB: `GIB_PER_TRIAL` in proportion to the bytes of a batch of images."""
    size = 1.0 if precision == "float32" else 0.5
    return GIB_PER_TRIAL * size * (batch_size / 32) * (input_size / 200) ** 2


def gpu_share(
    resources: ResourcesConfig,
    gpus: float,
    processors: float,
    gpu_gib: float,
    trials: int,
    trial_gib: float = GIB_PER_TRIAL,
) -> float:
    """Return the fraction of a GPU that each of `trials` reserves, rounded down to Ray's unit of 0.0001.

    With `auto`, a GPU gets as many trials as its memory holds (`trial_gib` each, but `GIB_PER_TRIAL` at least) and the
    processors can feed, but no more than needed to run all at once: two trials on one GPU are slower than one on each
    of two. 0 without a GPU.
    """
    if resources.gpu != "auto":
        return float(resources.gpu)
    if gpus < 1:
        return 0.0
    by_memory = max(1, int(gpu_gib // max(GIB_PER_TRIAL, trial_gib)))
    by_processors = max(1, int(processors / (resources.cpu * gpus) + 1e-6))
    by_demand = max(1, math.ceil(trials / gpus))
    return math.floor(1e4 / min(by_memory, by_processors, by_demand)) / 1e4


def gpu_memory_gib() -> float | None:
    """Return the memory of the smallest GPU of this machine in GiB by `nvidia-smi`, or `None` without a GPU."""
    sizes = [float(line) for line in _query_gpus("memory.total") if line.replace(".", "").isdigit()]
    return min(sizes) / 1024 if sizes else None


@functools.cache
def backend_sees_gpu() -> bool:
    """Return True if Keras' backend computes on a GPU here: one that was installed without NVIDIA's libraries does not.

    Another process asks it, which takes some seconds: in this one it would take memory of the GPU. Raises `ConfigError`
    if that process fails.
    """
    question = "from cxr_platform.training.step import gpu_is_visible; print(gpu_is_visible())"
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-c", question]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    *_, last = ["", *answer.stdout.split()]
    if answer.returncode or last not in ("True", "False"):
        raise ConfigError(
            f"Expected Keras on {keras_backend()} to say whether it sees a GPU.",
            received=last_line(answer.stderr) or f"exit code {answer.returncode}",
            advice="resources.gpu = 0 in the profile trains on the processors.",
        )
    return last == "True"


def available_memory() -> int:
    """Return the bytes of memory that a new process can use: of this machine, and of its container (cgroup v2).

    What the container holds of files that were not read lately counts as free, as the kernel gives it back.
    """
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    machine = int(fields["MemAvailable"].split()[0]) * 1024
    try:
        names = "memory.max", "memory.current", "memory.stat"
        limit, used, parts = ((CGROUP / name).read_text(encoding="utf-8") for name in names)
        held = dict(line.split() for line in parts.splitlines())
        return max(0, min(machine, int(limit) - int(used) + int(held["inactive_file"])))
    except (OSError, ValueError, KeyError):  # no cgroup v2, or no limit ("max")
        return machine


def check_memory(size: float, what: str, advice: str) -> None:
    """Raise `NotPossible` if `size` bytes for `what` are more than `available_memory`, which would end the process."""
    free = available_memory()
    if size > free:
        raise NotPossible(
            f"Expected {size / 2**30:.1f} GiB of memory for {what}.",
            received=f"{free / 2**30:.1f} GiB that are available",
            advice=f"Use a machine with more memory, {advice}.",
        )


def hardware() -> Hardware:
    """Return processor and GPUs of this machine."""
    return Hardware(
        processor=_processor(),
        processors=os.cpu_count(),
        gpus=_query_gpus("name"),
        machine=platform.machine(),
        system=platform.system(),
    )


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages in `REPORTED_PACKAGES` that are installed."""
    return dict(_package_versions())


@functools.cache  # each trial of a process states them: reading them takes longer than a short trial's files
def _package_versions() -> tuple[tuple[str, str], ...]:
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return tuple(versions.items())


def precision_on(setting: Literal["auto"] | Precision, gpus: float) -> Precision:
    """Return `training.precision`, or for "auto" the type that the oldest GPU of this machine computes fastest.

    bfloat16 from compute capability 8.0 (Ampere) on, float16 from 7.0 (Turing, Volta) on, float32 elsewhere.
    """
    if setting != "auto":
        return setting
    capabilities = [float(answer) for answer in _query_gpus("compute_cap") if answer[:1].isdigit()] if gpus else []
    lowest = min(capabilities, default=0.0)
    return "mixed_bfloat16" if lowest >= 8 else "mixed_float16" if lowest >= 7 else "float32"


def is_deterministic(resources: ResourcesConfig, gpus: float) -> bool:
    """Return `resources.deterministic`; "auto" is True without a GPU."""
    return not gpus if resources.deterministic == "auto" else resources.deterministic


def resident_bytes(gpus: float) -> float | None:
    """Return the bytes of images or activations that a trial with `gpus` keeps in each GPU, `None` without a GPU."""
    memory = gpu_memory_gib() if gpus else None
    if memory is None:
        return None
    part = min(1.0, gpus) * memory
    usable = JAX_SHARE * part if keras_backend() == "jax" else max(0.0, part - GIB_PER_CONTEXT)
    return RESIDENT_SHARE * usable * 2**30


def limit_process(cpus: float, gpu_fraction: float, deterministic: bool) -> None:
    """Limit this process to its share, since Ray uses a GPU fraction for placement only. Call it before any tensor.

    TensorFlow: threads, a logical device, and deterministic operations. JAX: `PJRT_NPROC` (`NPROC` before 0.5), the
    threads of a processor, `XLA_PYTHON_CLIENT_MEM_FRACTION`, read when it first uses a GPU, and `XLA_FLAGS` for
    deterministic operations (https://docs.jax.dev/en/latest/gpu_performance_tips.html).
    """
    if gpu_fraction == 0:
        hide_gpus()
    if keras_backend() == "jax":
        os.environ["PJRT_NPROC"] = os.environ["NPROC"] = str(max(1, int(cpus)))
        if deterministic and gpu_fraction:
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
        if 0 < gpu_fraction < 1:
            os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{JAX_SHARE * gpu_fraction:.3f}")
        return
    memory = gpu_memory_gib() if 0 < gpu_fraction < 1 else None
    limit_gib = max(0.5, gpu_fraction * memory - GIB_PER_CONTEXT) if memory else None
    _limit_tensorflow(max(1, int(cpus)), limit_gib, deterministic)


def hide_gpus() -> None:
    """Hide all GPUs from this process: a driver that only schedules trials must not use their memory."""
    if keras_backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            tf.config.set_visible_devices([], "GPU")
    else:
        import jax

        jax.config.update("jax_platforms", "cpu")


def _limit_tensorflow(threads: int, limit_gib: float | None, deterministic: bool) -> None:
    import tensorflow as tf

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    # A process in which TensorFlow already runs (a notebook, a test) keeps its threads: slower, with the same result.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(min(2, threads))
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and limit_gib:
        limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(limit_gib * 1024))
        tf.config.set_logical_device_configuration(gpus[0], [limit])


def _query_gpus(question: str) -> tuple[str, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        return _answers(tool, question)
    except (OSError, subprocess.SubprocessError):
        return ()


@functools.cache  # what is asked for does not change while a process lives
def _answers(tool: str, question: str) -> tuple[str, ...]:
    query = [tool, f"--query-gpu={question}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    return tuple(line.strip() for line in answer.splitlines() if line.strip())


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            return next((line.split(":")[1].strip() for line in stream if line.startswith("model name")), "unknown")
    except OSError:
        return "unknown"
