"""What a trial may take of a machine: processor threads, and a fraction of one card's memory."""

import os
import shutil
import subprocess

from cxr_platform.config import ResourcesConfig

GIB_A_TRIAL = 2.5
"""Memory of a card that one trial at 200 px and batch 32 needs: activations, cuDNN work space, and the context."""


def gpu_share(resources: ResourcesConfig, gpus_in_cluster: float, cpus_in_cluster: float) -> float:
    """The fraction of a card that a trial reserves.

    `auto`: as many trials a card as its memory holds (`GIB_A_TRIAL` each) and the processors can feed; 0 without one.
    """
    if resources.gpu != "auto":
        return float(resources.gpu)
    if gpus_in_cluster < 1:
        return 0.0
    by_memory = max(1, int((card_memory_gib() or GIB_A_TRIAL) // GIB_A_TRIAL))
    by_processors = max(1, int(cpus_in_cluster // (resources.cpu * gpus_in_cluster)))
    return 1.0 / min(by_memory, by_processors)


def card_memory_gib() -> float | None:
    """Total memory of the smallest card here in GiB, as `nvidia-smi` says; `None` where there is none to ask."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    sizes = [float(line) for line in done.stdout.split() if line.replace(".", "").isdigit()]
    return min(sizes) / 1024 if sizes else None


def limit_process(cpus: float, gpu_fraction: float) -> None:
    """Keep this process to its share; call it before the first tensor. A Ray GPU fraction is placement only.

    TensorFlow: threads and a logical device. JAX: `XLA_PYTHON_CLIENT_MEM_FRACTION`, read when it first seeks a card.
    """
    if 0 < gpu_fraction < 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * gpu_fraction:.3f}")
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        _limit_tensorflow(max(1, int(cpus)), gpu_fraction)


def hide_cards() -> None:
    """Keep this process off every card: a driver that only hands out trials must not take their memory."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
    else:
        import jax

        jax.config.update("jax_platforms", "cpu")


def _limit_tensorflow(threads: int, gpu_fraction: float) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(min(2, threads))
    memory = card_memory_gib()
    cards = tf.config.list_physical_devices("GPU")
    if cards and memory and 0 < gpu_fraction < 1:
        limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(0.9 * gpu_fraction * memory * 1024))
        tf.config.set_logical_device_configuration(cards[0], [limit])
