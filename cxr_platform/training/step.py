"""The compiled training step, behind one interface for both Keras backends.

It is compiled once for a network and kept: between folds only variables are set back, so that the second fold of a
strategy pays no tracing (a stock `model.fit` traces anew for every model that is built).
"""

import importlib
from typing import Any, Protocol

import keras

from cxr_platform.errors import ConfigError
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Batch

_IMPLEMENTATIONS = {
    "tensorflow": ("cxr_platform.training.step_tensorflow", "TensorFlowStep"),
    "jax": ("cxr_platform.training.step_jax", "JaxStep"),
}


class Step(Protocol):
    """A compiled step over one network's variables."""

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


def make_step(network: Network, weight_decay: float, label_smoothing: float) -> Step:
    """A step for the running Keras backend; `ConfigError` for a backend that has none."""
    backend = keras.backend.backend()
    if backend not in _IMPLEMENTATIONS:
        raise ConfigError("Expected KERAS_BACKEND to be tensorflow or jax.", received=repr(backend))
    module, name = _IMPLEMENTATIONS[backend]
    step: Step = getattr(importlib.import_module(module), name)(network, weight_decay, label_smoothing)
    return step


def prepare(network: Network, batch: Batch) -> Any:
    """What `network.upper` takes: warped films in −1…1, or activations in float32."""
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
