"""The compiled training step, behind one interface for both Keras backends.

It is compiled once for a network and kept: between folds only variables are set back, so that the second fold of a
strategy pays no tracing (a stock `model.fit` traces anew for every model that is built).
"""

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import keras
import numpy as np

from cxr_platform.errors import ConfigError
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Batch

_IMPLEMENTATIONS = {
    "tensorflow": ("cxr_platform.training.step_tensorflow", "TensorFlowStep"),
    "jax": ("cxr_platform.training.step_jax", "JaxStep"),
}


StepState = dict[str, np.ndarray]
"""Every array that a step changes, by kind and number: what is trained, what is kept beside it (moving statistics,
dropout's counter) and the optimiser's."""

KINDS = ("trained", "kept", "optimizer")


class Step(Protocol):
    """A compiled step over one network's variables.

    With several devices each takes its share of a batch, and the batch as a whole counts: gradients are summed over it
    and batch normalisation takes its statistics from all of it, so that devices change the time and not the recipe.
    """

    def reset(self) -> None:
        """Take up the network's variables as they are now, with a fresh optimiser."""
        ...

    def train(self, batch: Batch, labels: Any, weights: Any, learning_rate: float) -> tuple[Any, Any]:
        """One Adam step. Returns loss and number of right answers, on the device (not waited for)."""
        ...

    def logits(self, batch: Batch) -> Any:
        """Logits (B, 7) in inference mode."""
        ...

    def sync(self) -> None:
        """Write the state back into the network's variables."""
        ...

    def state(self) -> StepState:
        """A copy of the state after the last step."""
        ...

    def restore(self, state: StepState) -> None:
        """Go on from `state`, of the same network on the same backend; `ValueError` when it is another's."""
        ...


def make_step(network: Network, weight_decay: float, label_smoothing: float, devices: int = 1) -> Step:
    """A step for the running Keras backend; `ConfigError` for a backend that has none.

    With several devices, `network` must have been built within `device_scope(devices)`.
    """
    module, name = _implementation()
    step: Step = getattr(importlib.import_module(module), name)(network, weight_decay, label_smoothing, devices)
    return step


def device_scope(devices: int) -> AbstractContextManager[Any]:
    """Where a network is built whose step is to run on `devices` devices of this process."""
    scope: AbstractContextManager[Any] = importlib.import_module(_implementation()[0]).device_scope(devices)
    return scope


def usable_devices(batch_size: int) -> int:
    """The largest number of this process's devices that share a batch evenly: GPUs, or the processor as one device."""
    present: int = importlib.import_module(_implementation()[0]).count_devices()
    return next(n for n in range(present, 0, -1) if batch_size % n == 0)


def _implementation() -> tuple[str, str]:
    backend = keras.backend.backend()
    if backend not in _IMPLEMENTATIONS:
        raise ConfigError("Expected KERAS_BACKEND to be tensorflow or jax.", received=repr(backend))
    return _IMPLEMENTATIONS[backend]


def pack(trained: Sequence[Any], kept: Sequence[Any], optimizer: Sequence[Any]) -> StepState:
    """Variables or arrays of the three kinds, copied to the host."""
    groups = zip(KINDS, (trained, kept, optimizer), strict=True)
    return {f"{kind}/{i:04d}": np.array(value) for kind, group in groups for i, value in enumerate(group)}


def unpack(state: StepState, shapes: Sequence[Sequence[tuple[int, ...]]]) -> tuple[list[np.ndarray], ...]:
    """The arrays of the three kinds; `ValueError` when they are not of these `shapes`."""
    groups = tuple([state[name] for name in sorted(state) if name.startswith(f"{kind}/")] for kind in KINDS)
    if [[array.shape for array in group] for group in groups] != [list(map(tuple, group)) for group in shapes]:
        raise ValueError("expected the state of this network and optimiser, received that of another")
    return groups


def prepare(network: Network, batch: Batch) -> Any:
    """What `network.upper` takes: warped images in −1…1, or activations in float32."""
    if network.strategy.cut is None:
        return to_network_input(*batch)
    return keras.ops.cast(batch[0], "float32")


def loss_and_correct(logits: Any, labels: Any, weights: Any, label_smoothing: float) -> tuple[Any, Any]:
    """Weighted mean cross-entropy and the number of right answers of a batch."""
    classes = logits.shape[-1]
    targets = keras.ops.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
    losses = keras.ops.categorical_crossentropy(targets, logits, from_logits=True)
    correct = keras.ops.sum(keras.ops.cast(keras.ops.equal(keras.ops.argmax(logits, -1), labels), "int32"))
    return keras.ops.sum(losses * weights) / keras.ops.sum(weights), correct


def make_optimizer(weight_decay: float) -> keras.optimizers.Optimizer:
    """Adam, decoupled weight decay where it is asked for (https://keras.io/api/optimizers/)."""
    if weight_decay:
        return keras.optimizers.AdamW(weight_decay=weight_decay)
    return keras.optimizers.Adam()
