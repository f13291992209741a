"""The step on the TensorFlow backend.

`tf.function(autograph=False)`: the step has no Python control flow to convert, which would take seconds.

Several devices are replicas of a `tf.distribute.MirroredStrategy`. Keras' optimiser sums the gradients over replicas,
so each replica scales its loss by its part of the whole batch's weights. Batch normalisation synchronises its
statistics (https://keras.io/api/layers/normalization_layers/batch_normalization/). Dropout has another seed on each
replica, or its masks would repeat.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Batch
from cxr_platform.training.step import StepState, loss_and_correct, make_optimizer, pack, prepare, unpack


def count_devices() -> int:
    """Return the number of GPUs of this process, or of its (logical) processors without a GPU."""
    return len(_devices())


def device_scope(devices: int) -> AbstractContextManager[Any]:
    """Return the scope in which the variables of a network are mirrored on the first `devices` devices."""
    if devices == 1:
        return nullcontext()
    scope: AbstractContextManager[Any] = _mirrored(devices).scope()
    return scope


@cache
def _mirrored(devices: int) -> Any:
    """Return one strategy for all networks of a process: two would number their collective operations alike."""
    return tf.distribute.MirroredStrategy(_devices()[:devices])


def _devices() -> list[str]:
    return [device.name for device in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]


class TensorFlowStep:
    """See `step.Step`. The state is the network's own variables."""

    def __init__(self, network: Network, weight_decay: float, label_smoothing: float, devices: int = 1) -> None:
        tf.config.experimental.enable_op_determinism()
        self._network = network
        self._label_smoothing = label_smoothing
        self._optimizer = make_optimizer(weight_decay)
        self._variables = network.upper.trainable_variables
        self._optimizer.build(self._variables)
        self._strategy: Any = tf.distribute.get_strategy() if devices > 1 else None
        if self._strategy is not None:
            for layer in network.upper.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        self._train = tf.function(self._train_once if self._strategy is None else self._train_mirrored, autograph=False)
        self._infer = tf.function(self._infer_once, autograph=False)

    def reset(self) -> None:
        """Set the optimiser's moments and its count of iterations to zero."""
        for variable in self._optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        self._seed_dropout()

    def train(self, batch: Batch, labels: Any, weights: Any, learning_rate: float) -> tuple[Any, Any]:
        """Run one step. The learning rate is a variable, so that a schedule needs no further tracing."""
        self._optimizer.learning_rate.assign(learning_rate)
        if self._strategy is not None:
            batch, labels, weights = tuple(map(self._split, batch)), self._split(labels), self._split(weights)
        result: tuple[Any, Any] = self._train(batch, labels, weights)
        return result

    def logits(self, batch: Batch) -> Any:
        """Return logits (B, 7) in inference mode."""
        return self._infer(batch)

    def sync(self) -> None:
        """Do nothing: variables are updated in place."""

    def state(self) -> StepState:
        """Return a copy of the network's and the optimiser's variables."""
        return pack(*self._groups())

    def restore(self, state: StepState) -> None:
        """Set every variable to its value in `state`."""
        groups = self._groups()
        arrays = unpack(state, [[tuple(v.shape) for v in group] for group in groups])
        for variables, values in zip(groups, arrays, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self._seed_dropout()

    def _groups(self) -> tuple[list[Any], list[Any], list[Any]]:
        return self._variables, self._network.upper.non_trainable_variables, self._optimizer.variables

    def _split(self, array: Any) -> Any:
        """Split `array` along its first axis, one part per replica."""
        parts = np.split(np.asarray(array), self._strategy.num_replicas_in_sync)
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    def _seed_dropout(self) -> None:
        """Give each replica its own seed of dropout; only that of the first one is part of the state."""
        if self._strategy is None:
            return
        for variable in self._network.upper.non_trainable_variables:
            if variable.name == "seed_generator_state":
                for i, own in enumerate(self._strategy.experimental_local_results(variable.value)):
                    own.assign(np.asarray(variable) + np.array([i * 2**24, 0], variable.dtype))

    def _train_once(self, batch: Batch, labels: Any, weights: Any, share: Any = 1.0) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = self._network.upper(prepare(self._network, batch), training=True)
            loss, correct = loss_and_correct(logits, labels, weights, self._label_smoothing)
            loss = loss * share
        self._optimizer.apply(tape.gradient(loss, self._variables), self._variables)
        return loss, correct

    def _train_mirrored(self, batch: Batch, labels: Any, weights: Any) -> tuple[Any, Any]:
        whole = self._strategy.reduce("SUM", self._strategy.run(tf.reduce_sum, (weights,)), axis=None)

        def part(batch: Batch, labels: Any, weights: Any) -> tuple[Any, Any]:
            return self._train_once(batch, labels, weights, tf.reduce_sum(weights) / whole)

        losses, correct = self._strategy.run(part, (batch, labels, weights))
        return self._strategy.reduce("SUM", losses, axis=None), self._strategy.reduce("SUM", correct, axis=None)

    def _infer_once(self, batch: Batch) -> Any:
        return self._network.upper(prepare(self._network, batch), training=False)
