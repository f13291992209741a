"""The two limits of a device for training a network: arithmetic, and traffic to and from its memory.

What a network needs is counted from its layers; what the device gives is measured on it by a product of matrices and a
copy, not read from a data sheet.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

PASSES = 14
"""How often training reads or writes each output of a convolution, or of a dense layer, which are few.

Forward 5: the convolution writes it, batch normalisation reads it for its statistics, reads it again and writes the
normalised values, the next convolution reads these. Backward 9: the next convolution writes the gradient, reads its
input and its output's gradient for its weights; batch normalisation reads gradient and output for its sums, reads both
again and writes the gradient of its input; the convolution reads that for its weights and for its own input.
"""
REPEATS = 5


@dataclass(frozen=True)
class Work:
    """What training on one image takes: multiply-accumulate operations forward, and values that these layers write."""

    macs: int
    outputs: int

    @property
    def flop(self) -> int:
        """Floating-point operations forward and backward: two per MAC, and the backward pass has twice the forward."""
        return 6 * self.macs

    def moved_bytes(self, bytes_per_value: int) -> int:
        """Bytes to and from memory, forward and backward."""
        return PASSES * self.outputs * bytes_per_value


@dataclass(frozen=True)
class DeviceRates:
    """Operations and bytes per second that a device reached."""

    flop: float
    moved_bytes: float


def count_work(model: Any) -> Work:
    """Return the work of a Keras model of convolutions, depthwise convolutions and dense layers."""
    import keras

    macs = outputs = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
            values = math.prod(layer.output.shape[1:])
            per_value = math.prod(layer.kernel.shape[:2])
            if not isinstance(layer, keras.layers.DepthwiseConv2D):
                per_value *= layer.kernel.shape[2]
            macs += values * per_value
            outputs += values
        elif isinstance(layer, keras.layers.Dense):
            macs += math.prod(layer.kernel.shape)
            outputs += layer.units
    return Work(macs, outputs)


def images_per_second(work: Work, rates: DeviceRates, bytes_per_value: int) -> dict[str, float]:
    """Return the images per second to which each limit would let training, alone."""
    return {
        "arithmetic": rates.flop / work.flop,
        "memory": rates.moved_bytes / work.moved_bytes(bytes_per_value),
    }


def measure_rates(dtype: str, side: int, megabytes: int) -> DeviceRates:
    """Measure a product of two matrices of `side` × `side`, and a copy of an array of `megabytes`, in `dtype`.

    The array must be larger than the caches of the device.
    """
    rng = np.random.default_rng(0)
    matrices = [_to_device(rng.normal(size=(side, side)).astype("float32"), dtype) for _ in range(2)]
    product = _seconds(_compiled(lambda a, b: a @ b), *matrices)
    array = _to_device(np.zeros(megabytes * 2**18, "float32"), "float32")
    copy = _seconds(_compiled(lambda a: a + 1), array)
    return DeviceRates(2 * side**3 / product, 2 * megabytes * 2**20 / copy)


def _to_device(array: Any, dtype: str) -> Any:
    import keras

    return keras.ops.cast(keras.ops.convert_to_tensor(array), dtype)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import keras

    if keras.backend.backend() == "jax":
        import jax

        compiled: Callable[..., Any] = jax.jit(function)
        return compiled
    import tensorflow as tf

    in_graph: Callable[..., Any] = tf.function(function)
    return in_graph


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Return the median seconds of a call, to the end of the work on the device."""
    _wait(function(*arguments))  # compiles
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        _wait(function(*arguments))
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def _wait(result: Any) -> None:
    import keras

    if keras.backend.backend() == "jax":
        result.block_until_ready()
    else:
        result[:1].numpy()
