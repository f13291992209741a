"""The compiled training step: one interface for both Keras backends.

A step is compiled once per network and reused: between folds only the variables are reset, so that the second fold of a
strategy needs no tracing (`model.fit` traces again for every model that is built).
"""

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ConfigError
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Batch

_IMPLEMENTATIONS = {
    "tensorflow": ("cxr_platform.training.step_tensorflow", "TensorFlowStep"),
    "jax": ("cxr_platform.training.step_jax", "JaxStep"),
}


StepState = dict[str, NDArray[Any]]
"""Every array that a step changes, by kind and number: `trained` weights, `kept` ones that are not trained (moving
statistics, the counter of dropout), and the optimiser's."""

KINDS = ("trained", "kept", "optimizer")


class Step(Protocol):
    """A compiled step over one network's variables.

    With several devices each takes its share of a batch. Gradients are summed over the whole batch and batch
    normalisation uses its statistics, so that the number of devices changes the time and not the method.
    """

    def reset(self) -> None:
        """Start from the network's variables as they are now, with a new optimiser state."""
        ...

    def train(self, batch: Batch, labels: Any, weights: Any, learning_rate: float) -> tuple[Any, Any]:
        """Run one Adam step. Return loss and number of correct predictions, on the device (not waited for)."""
        ...

    def logits(self, batch: Batch) -> Any:
        """Return logits (B, 7) in inference mode."""
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


def make_step(network: Network, weight_decay: float, label_smoothing: float, devices: int = 1) -> Step:
    """Return a step for the running Keras backend; raise `ConfigError` for a backend that has none.

    With several devices, `network` must have been built within `device_scope(devices)`.
    """
    module, name = _implementation()
    step: Step = getattr(importlib.import_module(module), name)(network, weight_decay, label_smoothing, devices)
    return step


def device_scope(devices: int) -> AbstractContextManager[Any]:
    """Return the context in which to build a network whose step runs on `devices` devices of this process."""
    scope: AbstractContextManager[Any] = importlib.import_module(_implementation()[0]).device_scope(devices)
    return scope


def usable_devices(batch_size: int) -> int:
    """Return the largest number of this process's devices that share a batch evenly: GPUs, or the processor as one."""
    present: int = importlib.import_module(_implementation()[0]).count_devices()
    return next(n for n in range(present, 0, -1) if batch_size % n == 0)


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


def prepare(network: Network, batch: Batch) -> Any:
    """Return the input of `network.upper`: warped images in −1…1, or activations in float32."""
    if network.strategy.cut is None:
        return to_network_input(*batch)
    return keras.ops.cast(batch[0], "float32")


def loss_and_correct(logits: Any, labels: Any, weights: Any, label_smoothing: float) -> tuple[Any, Any]:
    """Return the weighted mean cross-entropy and the number of correct predictions of a batch."""
    classes = logits.shape[-1]
    targets = keras.ops.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
    losses = keras.ops.categorical_crossentropy(targets, logits, from_logits=True)
    correct = keras.ops.sum(keras.ops.cast(keras.ops.equal(keras.ops.argmax(logits, -1), labels), "int32"))
    return keras.ops.sum(losses * weights) / keras.ops.sum(weights), correct


def make_optimizer(weight_decay: float) -> keras.optimizers.Optimizer:
    """Return Adam, with decoupled weight decay if it is not 0 (https://keras.io/api/optimizers/)."""
    if weight_decay:
        return keras.optimizers.AdamW(weight_decay=weight_decay)
    return keras.optimizers.Adam()
