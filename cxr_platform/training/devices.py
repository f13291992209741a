"""What a trial may take of a machine: processor threads, and a fraction of one GPU's memory."""

import contextlib
import math
import os
import platform
import shutil
import subprocess
from importlib import metadata

from cxr_platform.config import ResourcesConfig
from cxr_platform.domain.study import Hardware
from cxr_platform.errors import ConfigError

REPORTED_PACKAGES = ("keras", "tensorflow", "jax", "ray", "numpy", "scikit-learn", "pyarrow", "cxr-platform")

GIB_A_TRIAL = 2.5
"""Memory of a GPU that one trial at 200 px and batch 32 needs, its context included. An estimate, with room."""

GIB_A_CONTEXT = 0.6
"""Memory that a process takes of a GPU before its framework allocates anything, which no framework's limit counts."""


def keras_backend() -> str:
    """The backend that Keras runs on; `ConfigError` when it is one that has no training step here."""
    import keras

    name: str = keras.backend.backend()
    if name not in ("tensorflow", "jax"):
        raise ConfigError("Expected KERAS_BACKEND to be tensorflow or jax.", received=repr(name))
    return name


def gpu_share(resources: ResourcesConfig, gpus: float, processors: float, gpu_gib: float | None, trials: int) -> float:
    """The fraction of a GPU that each of `trials` reserves, rounded down to Ray's unit of 0.0001.

    `auto`: as many trials a GPU as its memory holds (`GIB_A_TRIAL` each) and the processors can feed, but no more than
    are left when every GPU has some: two on one GPU are slower than one on each of two. 0 without a GPU.
    """
    if resources.gpu != "auto":
        return float(resources.gpu)
    if gpus < 1:
        return 0.0
    by_memory = max(1, int((gpu_gib or GIB_A_TRIAL) // GIB_A_TRIAL))
    by_processors = max(1, int(processors / (resources.cpu * gpus) + 1e-6))
    by_demand = max(1, math.ceil(trials / gpus))
    return math.floor(1e4 / min(by_memory, by_processors, by_demand)) / 1e4


def gpu_memory_gib() -> float | None:
    """Total memory of the smallest GPU here in GiB, as `nvidia-smi` says; `None` where there is none to ask."""
    sizes = [float(line) for line in _ask_gpus("memory.total") if line.replace(".", "").isdigit()]
    return min(sizes) / 1024 if sizes else None


def hardware() -> Hardware:
    """Return processor and GPUs of this machine."""
    return Hardware(
        processor=_processor(),
        processors=os.cpu_count(),
        gpus=tuple(_ask_gpus("name")),
        machine=platform.machine(),
        system=platform.system(),
    )


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages in `REPORTED_PACKAGES` that are installed."""
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def limit_process(cpus: float, gpu_fraction: float) -> None:
    """Keep this process to its share; call it before the first tensor. A Ray GPU fraction is placement only.

    TensorFlow: threads and a logical device. JAX: `XLA_PYTHON_CLIENT_MEM_FRACTION`, read when it first seeks a GPU.
    """
    if gpu_fraction == 0:
        hide_gpus()
    memory = gpu_memory_gib() if 0 < gpu_fraction < 1 else None
    limit_gib = max(0.5, gpu_fraction * memory - GIB_A_CONTEXT) if memory else None
    if keras_backend() == "jax":
        if memory and limit_gib:
            os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{limit_gib / memory:.3f}")
        return
    _limit_tensorflow(max(1, int(cpus)), limit_gib)


def hide_gpus() -> None:
    """Keep this process off every GPU: a driver that only hands out trials must not take their memory."""
    if keras_backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            tf.config.set_visible_devices([], "GPU")
    else:
        import jax

        jax.config.update("jax_platforms", "cpu")


def _limit_tensorflow(threads: int, limit_gib: float | None) -> None:
    import tensorflow as tf

    # A process in which TensorFlow already runs (a notebook, a test) keeps its threads: that costs time, not truth.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(min(2, threads))
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and limit_gib:
        limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(limit_gib * 1024))
        tf.config.set_logical_device_configuration(gpus[0], [limit])


def _ask_gpus(question: str) -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={question}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            return next((line.split(":")[1].strip() for line in stream if line.startswith("model name")), "unknown")
    except OSError:
        return "unknown"
