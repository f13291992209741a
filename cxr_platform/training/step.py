"""The compiled training step: one interface for both Keras backends.

A step is compiled once per network and reused: between folds only the variables are reset, so that the second fold of a
strategy needs no tracing (`model.fit` traces again for every model that is built).
"""

import importlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import Precision
from cxr_platform.errors import ConfigError
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import pad
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Array, Batch, Index, Inputs, gather

_IMPLEMENTATIONS = {
    "tensorflow": ("cxr_platform.training.step_tensorflow", "TensorFlowStep"),
    "jax": ("cxr_platform.training.step_jax", "JaxStep"),
}


StepState = dict[str, NDArray[Any]]
"""Every array that a step changes, by kind and number: `trained` weights, `kept` ones that are not trained (moving
statistics, the counter of dropout), and the optimiser's."""

KINDS = ("trained", "kept", "optimizer")


STEPS_PER_CALL = 32
"""Training steps, or batches to predict, in one call from Python, at most."""

HOST_BYTES = 64 * 2**20
"""Bytes of the batches that are gathered on the host for one call."""

IMAGES_PER_DEVICE = 16
"""Least images of a batch for each of several devices, a rule of thumb: with fewer, most of a GPU is idle."""

AHEAD = 2
"""Calls whose batches are gathered on the host before they are needed."""


@dataclass(frozen=True)
class Placement:
    """On how many devices a step runs, whether its results repeat, and how many bytes of inputs may stay on a device.

    Larger inputs are gathered on the host. Without a GPU the arrays of all trials may be one copy in the object store.
    """

    devices: int = 1
    deterministic: bool = True
    resident_bytes: float = 256 * 2**20


ONE_PROCESSOR = Placement()


@dataclass(frozen=True)
class Steps:
    """Consecutive training steps: an index with (K, B, …), labels and weights (K, B), learning rates (K,)."""

    index: Index
    labels: NDArray[Any]
    weights: NDArray[Any]
    learning_rates: NDArray[Any]


@dataclass(frozen=True)
class Call:
    """The arguments of one compiled call: `count` batches of `data`, and arrays (C, B, …) filled up to a fixed C."""

    data: Any
    count: int
    arrays: tuple[NDArray[Any], ...]


class Step(Protocol):
    """A compiled step over one network's variables.

    Many steps are one call from Python where that is faster: the loop over them is compiled, and batches are gathered
    where the step runs.
    With several devices each takes its share of a batch. Gradients are summed over the whole batch and batch
    normalisation uses its statistics, so that the number of devices changes the time and not the method.
    """

    def load(self, inputs: Inputs) -> bool:
        """Train and predict on `inputs` from now on. Return False if they are too large for the device's memory.

        Batches are then gathered on the host, by a thread ahead of the step; the result is the same. Nothing is copied
        for the arrays that are loaded already.
        """
        ...

    def unload(self) -> None:
        """Free the memory of the loaded arrays."""
        ...

    def reset(self) -> None:
        """Start from the network's variables as they are now, with a new optimiser state."""
        ...

    def train(self, steps: Steps) -> tuple[NDArray[Any], NDArray[Any]]:
        """Run Adam steps. Return the loss and the number of correct predictions (K,) of each."""
        ...

    def logits(self, index: Index) -> NDArray[Any]:
        """Return logits (K, B, 7) float32 in inference mode of an index with (K, B, …)."""
        ...

    def sync(self) -> None:
        """Write the state back into the network's variables."""
        ...

    def state(self) -> StepState:
        """Return a copy of the state after the last step."""
        ...

    def restore(self, state: StepState) -> None:
        """Continue from `state`; raise `ValueError` if it is that of another network or backend."""
        ...


class BatchSource:
    """The data of compiled calls: arrays that stay on the device, or those of each call, gathered on the host.

    `put` copies arrays to the device and joins them there, so that no second copy is made on the host. Arrays of at
    most `limit` bytes stay; while they are joined they take twice their bytes. A call has at most `steps` batches.
    """

    def __init__(self, put: Callable[[Sequence[Array]], Any], limit: float, steps: int = STEPS_PER_CALL) -> None:
        self._put, self._limit, self._steps = put, limit, steps
        self._arrays: tuple[Array, ...] = ()
        self._data: Any = None

    def load(self, arrays: Sequence[Array]) -> bool:
        """Gather batches from `arrays` from now on, as `Step.load` describes."""
        if list(map(_identity, arrays)) != list(map(_identity, self._arrays)):
            self.unload()  # frees the memory of the last ones first
            self._arrays = tuple(arrays)
            if sum(array.nbytes for array in arrays) <= self._limit:
                self._data = self._put(arrays)
        return self._data is not None

    def unload(self) -> None:
        """Free the memory of the loaded arrays."""
        self._arrays, self._data = (), None

    def calls(self, arrays: Sequence[NDArray[Any]]) -> Generator[Call, None, None]:
        """Yield the calls for `arrays` (K, B, …), of which the first are positions.

        Raises `ValueError` if nothing is loaded.
        """
        if not self._arrays:
            raise ValueError("expected `load` before the first step")
        if self._data is not None:
            yield from (Call(self._data, count, part) for count, part in _parts(arrays, self._steps))
            return
        batch_bytes = self._arrays[0].nbytes // len(self._arrays[0]) * arrays[0].shape[1]
        size = int(min(self._steps, max(1, HOST_BYTES // batch_bytes)))
        with ThreadPoolExecutor(1, "gather") as pool:
            waiting: deque[Future[Call]] = deque()
            for count, part in _parts(arrays, size):
                waiting.append(pool.submit(self._gathered, count, part))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _gathered(self, count: int, part: tuple[NDArray[Any], ...]) -> Call:
        positions = np.arange(part[0].size, dtype="int32").reshape(part[0].shape)
        return Call(self._put([gather(self._arrays, part[0].ravel())]), count, (positions, *part[1:]))


def _identity(array: Array) -> object:
    """Return what two arrays share that are the same values in the same memory or file, as two views of one array."""
    if not isinstance(array, np.ndarray):
        return array.identity
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def _parts(arrays: Sequence[NDArray[Any]], size: int) -> Iterator[tuple[int, tuple[NDArray[Any], ...]]]:
    """Yield `arrays` in parts of `size` along the first axis, the last one filled up, and how many of it count."""
    for start in range(0, len(arrays[0]), size):
        part = tuple(array[start : start + size] for array in arrays)
        yield len(part[0]), tuple(pad(array, size) for array in part)


def make_step(
    network: Network, weight_decay: float, label_smoothing: float, placement: Placement = ONE_PROCESSOR
) -> Step:
    """Return a step for the running Keras backend; raise `ConfigError` for a backend that has none.

    With several devices, `network` must have been built within `device_scope(devices)`.
    """
    module, name = _implementation()
    step: Step = getattr(importlib.import_module(module), name)(network, weight_decay, label_smoothing, placement)
    return step


def device_scope(devices: int) -> AbstractContextManager[Any]:
    """Return the context in which to build a network whose step runs on `devices` devices of this process."""
    scope: AbstractContextManager[Any] = importlib.import_module(_implementation()[0]).device_scope(devices)
    return scope


def usable_devices(batch_size: int, present: int | None = None) -> int:
    """Return on how many of `present` devices a step of `batch_size` images runs, by default of this process's.

    The largest number that shares a batch evenly and gets `IMAGES_PER_DEVICE` or more each. Devices are GPUs, or the
    processor as one.
    """
    if present is None:
        present = importlib.import_module(_implementation()[0]).count_devices()
    fit = (n for n in range(present, 1, -1) if batch_size % n == 0 and batch_size // n >= IMAGES_PER_DEVICE)
    return next(fit, 1)


def gpu_is_visible() -> bool:
    """Return True if the running backend computes on a GPU."""
    visible: bool = importlib.import_module(_implementation()[0]).gpu_is_visible()
    return visible


def _implementation() -> tuple[str, str]:
    backend = keras.backend.backend()
    if backend not in _IMPLEMENTATIONS:
        raise ConfigError("Expected KERAS_BACKEND to be tensorflow or jax.", received=repr(backend))
    return _IMPLEMENTATIONS[backend]


def pack(trained: Sequence[Any], kept: Sequence[Any], optimizer: Sequence[Any]) -> StepState:
    """Return a state of variables or arrays of the three kinds, copied to the host."""
    groups = zip(KINDS, (trained, kept, optimizer), strict=True)
    return {f"{kind}/{i:04d}": np.array(value) for kind, group in groups for i, value in enumerate(group)}


def unpack(state: StepState, shapes: Sequence[Sequence[tuple[int, ...]]]) -> tuple[list[NDArray[Any]], ...]:
    """Return the arrays of the three kinds; raise `ValueError` if they do not have these `shapes`."""
    groups = tuple([state[name] for name in sorted(state) if name.startswith(f"{kind}/")] for kind in KINDS)
    if [[array.shape for array in group] for group in groups] != [list(map(tuple, group)) for group in shapes]:
        raise ValueError("expected the state of this network and optimiser, received that of another")
    return groups


def prepare(network: Network, model: keras.Model, batch: Batch) -> Any:
    """Return the input of `model`, the upper part of `network`: warped images in −1…1, or activations in its type.

    Activations of images are computed here, and rounded to float16 as stored ones are.
    """
    if len(batch) == 1:
        return keras.ops.cast(batch[0], model.compute_dtype)
    images = to_network_input(*batch)
    if network.lower is None:
        return images
    activations = keras.ops.cast(network.lower(images, training=False), "float16")
    return keras.ops.cast(activations, model.compute_dtype)


def loss_and_correct(logits: Any, labels: Any, weights: Any, label_smoothing: float) -> tuple[Any, Any]:
    """Return the weighted mean cross-entropy and the number of correct predictions of a batch."""
    classes, logits = logits.shape[-1], keras.ops.cast(logits, "float32")
    targets = keras.ops.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
    losses = keras.ops.categorical_crossentropy(targets, logits, from_logits=True)
    correct = keras.ops.sum(keras.ops.cast(keras.ops.equal(keras.ops.argmax(logits, -1), labels), "int32"))
    return keras.ops.sum(losses * weights) / keras.ops.sum(weights), correct


NOT_DECAYED = ["gamma", "beta", "bias"]
"""Weight decay leaves scales and offsets of batch normalisation, and biases, alone."""


def make_optimizer(
    weight_decay: float, precision: Precision = "float32", adam: type[keras.optimizers.Adam] = keras.optimizers.Adam
) -> keras.optimizers.Optimizer:
    """Return `adam`, with decoupled weight decay of kernels if it is not 0 (https://keras.io/api/optimizers/adam/).

    With float16 the loss is scaled while gradients are computed, so that small ones do not become 0.
    """
    optimizer = adam(weight_decay=weight_decay or None)
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer
