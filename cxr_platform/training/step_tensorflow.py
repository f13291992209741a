"""The step on the TensorFlow backend.

`tf.function(autograph=False)`: the step has no Python control flow to convert, which would take seconds.

Several devices are replicas of a `tf.distribute.MirroredStrategy`. Keras' optimiser sums the gradients over replicas,
so each replica scales its loss by its part of the whole batch's weights. Batch normalisation synchronises its
statistics (https://keras.io/api/layers/normalization_layers/batch_normalization/). Dropout has another seed on each
replica, or its masks would repeat.
"""

from contextlib import AbstractContextManager, closing, nullcontext
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Batch, Index, Inputs
from cxr_platform.training.step import (
    ONE_PROCESSOR,
    BatchSource,
    Call,
    Placement,
    Steps,
    StepState,
    loss_and_correct,
    make_optimizer,
    pack,
    prepare,
    unpack,
)


def count_devices() -> int:
    """Return the number of GPUs of this process, or of its (logical) processors without a GPU."""
    return len(_devices())


def gpu_is_visible() -> bool:
    """Return True if TensorFlow computes on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


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


def _uses_xla() -> bool:
    """Return True on a GPU without op determinism. XLA is slower on a processor and off with determinism."""
    return gpu_is_visible() and not tf.config.experimental.is_op_determinism_enabled()


def _on_device(array: NDArray[Any]) -> Any:
    """Return the array as a tensor; on a GPU pixels are float16, since TensorFlow gathers no uint8 there."""
    return tf.constant(array.astype("float16") if array.dtype == np.uint8 and gpu_is_visible() else array)


class TensorFlowStep:
    """See `step.Step`. The state is the network's own variables."""

    def __init__(
        self,
        network: Network,
        weight_decay: float,
        label_smoothing: float,
        placement: Placement = ONE_PROCESSOR,
    ) -> None:
        if placement.deterministic:
            tf.config.experimental.enable_op_determinism()
        self._network = network
        self._label_smoothing = label_smoothing
        self._optimizer = make_optimizer(weight_decay, network.precision)
        self._variables = network.upper.trainable_variables
        self._optimizer.build(self._variables)
        self._optimizer_start = [np.array(variable) for variable in self._optimizer.variables]
        self._strategy: Any = tf.distribute.get_strategy() if placement.devices > 1 else None
        if self._strategy is not None:
            for layer in network.upper.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        # The loop and the warp of images are left to TensorFlow: XLA has no kernel for the warp.
        compiled = True if _uses_xla() else None
        self._update = tf.function(self._update_once, autograph=False, jit_compile=compiled)
        self._network_logits = tf.function(self._logits_once, autograph=False, jit_compile=compiled)
        self._train = tf.function(self._train_many, autograph=False)
        self._train_part = tf.function(self._train_mirrored, autograph=False)
        self._infer = tf.function(self._infer_many, autograph=False)
        if self._strategy is None:
            self._source = BatchSource(_on_device, placement.resident_bytes)
        else:  # several devices get each batch from the host
            self._source = BatchSource(np.asarray, limit=0)

    def load(self, inputs: Inputs) -> bool:
        """Put the arrays of `inputs` on the device if they fit; several devices get each batch from the host."""
        return self._source.load(inputs.arrays)

    def unload(self) -> None:
        """Free the memory of the loaded arrays."""
        self._source.unload()

    def reset(self) -> None:
        """Set the optimiser's moments and its count of iterations to their initial values."""
        for variable, value in zip(self._optimizer.variables, self._optimizer_start, strict=True):
            variable.assign(value)
        self._seed_dropout()

    def train(self, steps: Steps) -> tuple[NDArray[Any], NDArray[Any]]:
        """Run the steps. The learning rate is a variable, so that a schedule needs no further tracing."""
        losses, correct = [], []
        rates = np.broadcast_to(steps.learning_rates[:, None], steps.labels.shape)
        with closing(self._source.calls((*steps.index, steps.labels, steps.weights, rates))) as calls:
            for call in calls:
                loss, right = self._run(call)
                losses.append(np.asarray(loss)[: call.count])
                correct.append(np.asarray(right)[: call.count])
        return np.concatenate(losses), np.concatenate(correct)

    def logits(self, index: Index) -> NDArray[Any]:
        """Return logits (K, B, 7) in inference mode."""
        with closing(self._source.calls(index)) as calls:
            parts = [np.asarray(self._infer(c.data, tf.constant(c.count), c.arrays))[: c.count] for c in calls]
        return np.concatenate(parts)

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

    def _run(self, call: Call) -> tuple[Any, Any]:
        *index, labels, weights, rates = call.arrays
        if self._strategy is None:
            result: tuple[Any, Any] = self._train(call.data, tf.constant(call.count), index, labels, weights, rates)
            return result
        results = []
        for i in range(call.count):
            self._optimizer.learning_rate.assign(rates[i, 0])
            batch = (call.data[index[0][i]], *(array[i] for array in index[1:]))
            parts = tuple(map(self._split, batch)), self._split(labels[i]), self._split(weights[i])
            results.append(self._train_part(*parts))
        losses, correct = zip(*results, strict=True)
        return np.array(losses), np.array(correct)

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

    def _train_many(
        self, data: Any, count: Any, index: list[Any], labels: Any, weights: Any, rates: Any
    ) -> tuple[Any, Any]:
        def body(i: Any, losses: Any, correct: Any) -> tuple[Any, Any, Any]:
            self._optimizer.learning_rate.assign(rates[i, 0])
            batch = (tf.gather(data, index[0][i]), *(array[i] for array in index[1:]))
            loss, right = self._train_once(batch, labels[i], weights[i])
            return i + 1, losses.write(i, loss), correct.write(i, right)

        size = labels.shape[0]
        start = (0, tf.TensorArray("float32", size, element_shape=()), tf.TensorArray("int32", size, element_shape=()))
        _, losses, correct = tf.while_loop(lambda i, *_: i < count, body, start, parallel_iterations=1)
        return losses.stack(), correct.stack()

    def _train_once(self, batch: Batch, labels: Any, weights: Any) -> tuple[Any, Any]:
        result: tuple[Any, Any] = self._update(prepare(self._network, batch), labels, weights, 1.0)
        return result

    def _update_once(self, inputs: Any, labels: Any, weights: Any, share: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = self._network.upper(inputs, training=True)
            loss, correct = loss_and_correct(logits, labels, weights, self._label_smoothing)
            loss = loss * share
            scaled = self._optimizer.scale_loss(loss)
        self._optimizer.apply(tape.gradient(scaled, self._variables), self._variables)
        return loss, correct

    def _logits_once(self, inputs: Any) -> Any:
        return tf.cast(self._network.upper(inputs, training=False), "float32")

    def _train_mirrored(self, batch: Batch, labels: Any, weights: Any) -> tuple[Any, Any]:
        whole = self._strategy.reduce("SUM", self._strategy.run(tf.reduce_sum, (weights,)), axis=None)

        def part(batch: Batch, labels: Any, weights: Any) -> tuple[Any, Any]:
            inputs = prepare(self._network, batch)
            return self._update_once(inputs, labels, weights, tf.reduce_sum(weights) / whole)

        losses, correct = self._strategy.run(part, (batch, labels, weights))
        return self._strategy.reduce("SUM", losses, axis=None), self._strategy.reduce("SUM", correct, axis=None)

    def _infer_many(self, data: Any, count: Any, index: tuple[Any, ...]) -> Any:
        def body(i: Any, logits: Any) -> tuple[Any, Any]:
            batch = (tf.gather(data, index[0][i]), *(array[i] for array in index[1:]))
            return i + 1, logits.write(i, self._network_logits(prepare(self._network, batch)))

        shape = (index[0].shape[1], len(CLASSES))
        start = (0, tf.TensorArray("float32", index[0].shape[0], element_shape=shape))
        return tf.while_loop(lambda i, *_: i < count, body, start, parallel_iterations=1)[1].stack()
