"""The step on the TensorFlow backend.

`tf.function(autograph=False)`: the step has no Python control flow to convert, which would take seconds.

Several devices are replicas of a `tf.distribute.MirroredStrategy`. The loop over steps runs outside its `run`, within
which a loop may not update variables. Keras' optimiser sums the gradients over replicas, so each replica scales its
loss by its part of the whole batch's weights. Batch normalisation synchronises its statistics
(https://keras.io/api/layers/normalization_layers/batch_normalization/). Dropout has another seed on each replica, or
its masks would repeat.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Array, Batch, Index, Inputs
from cxr_platform.training.step import (
    ONE_PROCESSOR,
    BatchSource,
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
    return bool(tf.config.get_visible_devices("GPU"))


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


def pack_pixels(images: NDArray[Any]) -> NDArray[Any]:
    """Return uint8 images (N, S, S) as rows of float16 without changing a bit: on a GPU TensorFlow gathers no uint8.

    No copy is made, except of images with an odd number of pixels, which get another one.
    """
    rows = images.reshape(len(images), -1)
    return (np.pad(rows, ((0, 0), (0, 1))) if rows.shape[1] % 2 else rows).view("float16")


def unpack_pixels(rows: Any, side: int) -> Any:
    """Return the uint8 images (B, side, side) in `rows` of `pack_pixels`."""
    pixels = tf.reshape(tf.bitcast(rows, tf.uint8), (rows.shape[0], -1))
    return tf.reshape(pixels[:, : side * side], (-1, side, side))


class FusedAdam(keras.optimizers.Adam):
    """Keras' optimiser for one device, whose update of a variable is one operation.

    Keras' own has a dozen, each of which goes through all weights once: on a processor they took half of the time of a
    head's step, and half of that of the first step from scratch (docs/results/2026-11-28-adam-step.md). The formula and
    the variables are the same; XLA joins the operations by itself. Of Keras' options it has weight decay alone.
    Source: https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyAdam.
    """

    def __init__(self, weight_decay: float | None = None) -> None:
        super().__init__(weight_decay=weight_decay)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any]) -> None:
        """Change the variables with which the optimiser was built, in their order, by one step along `grads`."""
        rate, step = self.learning_rate, tf.cast(self.iterations + 1, tf.float32)
        powers = {"beta1_power": self.beta_1**step, "beta2_power": self.beta_2**step}
        betas = {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon}
        kept = 1 - rate * (self.weight_decay or 0.0)
        for gradient, variable, *moments in zip(
            grads, trainable_variables, self._momentums, self._velocities, strict=True
        ):
            weights, m, v = (each.value for each in (variable, *moments))
            if self.weight_decay and self._use_weight_decay(variable):
                weights.assign(weights * kept)
            tf.raw_ops.ResourceApplyAdam(
                var=weights.handle, m=m.handle, v=v.handle, lr=rate, grad=gradient, **powers, **betas
            )
        self.iterations.assign_add(1)


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
        adam = FusedAdam if placement.devices == 1 and not _uses_xla() else keras.optimizers.Adam
        self._optimizer = make_optimizer(weight_decay, network.precision, adam)
        self._variables = network.upper.trainable_variables
        self._optimizer.build(self._variables)
        self._optimizer_start = [np.array(variable) for variable in self._optimizer.variables]
        self._strategy: Any = tf.distribute.get_strategy()  # without a scope that of one device
        self._replicas = placement.devices
        self._packed = False
        if self._replicas > 1:
            for layer in network.upper.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        # The loop and the warp of images are left to TensorFlow: XLA has no kernel for the warp.
        compiled = True if _uses_xla() else None
        self._update = tf.function(self._update_once, autograph=False, jit_compile=compiled)
        self._network_logits = tf.function(self._logits_once, autograph=False, jit_compile=compiled)
        self._train = tf.function(self._train_many, autograph=False)
        self._infer = tf.function(self._infer_many, autograph=False)
        self._source = BatchSource(self._put, placement.resident_bytes)

    def load(self, inputs: Inputs) -> bool:
        """Put the arrays of `inputs` on every device if they fit."""
        self._packed = inputs.arrays[0].dtype == np.uint8 and gpu_is_visible()
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
                *index, labels, weights, rate = call.arrays
                totals = weights.sum(axis=1)
                parts = list(map(self._split, index)), self._split(labels), self._split(weights)
                loss, right = self._train(call.data, tf.constant(call.count), *parts, rate[:, 0], totals)
                losses.append(np.asarray(loss)[: call.count])
                correct.append(np.asarray(right)[: call.count])
        return np.concatenate(losses), np.concatenate(correct)

    def logits(self, index: Index) -> NDArray[Any]:
        """Return logits (K, B, 7) in inference mode."""
        parts = []
        with closing(self._source.calls(index)) as calls:
            for call in calls:
                arrays = list(map(self._split, call.arrays))
                parts.append(np.asarray(self._infer(call.data, tf.constant(call.count), arrays))[: call.count])
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

    def _groups(self) -> tuple[list[Any], list[Any], list[Any]]:
        return self._variables, self._network.upper.non_trainable_variables, self._optimizer.variables

    def _put(self, arrays: Sequence[Array]) -> Any:
        """Copy `arrays` to every device, one after the other, as one tensor."""

        def joined(_replica: int) -> Any:
            read = map(np.asarray, arrays)  # files: one at a time
            parts = [tf.constant(pack_pixels(array) if self._packed else array) for array in read]
            return parts[0] if len(parts) == 1 else tf.concat(parts, 0)

        return self._on_each(joined)

    def _split(self, array: NDArray[Any]) -> Any:
        """Split `array` (C, B, …) along its second axis, one part per replica."""
        parts = np.split(array, self._replicas, axis=1)
        return self._on_each(lambda replica: tf.constant(parts[replica]))

    def _on_each(self, value: Callable[[int], Any]) -> Any:
        """Return the values of the replicas, each made on its device."""
        if self._replicas == 1:
            return value(0)
        devices = self._strategy.extended.worker_devices

        def placed(context: Any) -> Any:
            with tf.device(devices[context.replica_id_in_sync_group]):
                return value(context.replica_id_in_sync_group)

        return self._strategy.experimental_distribute_values_from_function(placed)

    def _seed_dropout(self) -> None:
        """Give each replica its own seed of dropout; only that of the first one is part of the state."""
        if self._replicas == 1:
            return
        for variable in self._network.upper.non_trainable_variables:
            if variable.name == "seed_generator_state":
                for i, own in enumerate(self._strategy.experimental_local_results(variable.value)):
                    own.assign(np.asarray(variable) + np.array([i * 2**24, 0], variable.dtype))

    def _train_many(
        self, data: Any, count: Any, index: Sequence[Any], labels: Any, weights: Any, rates: Any, totals: Any
    ) -> tuple[Any, Any]:
        def part(i: Any, data: Any, index: Sequence[Any], labels: Any, weights: Any) -> tuple[Any, Any]:
            share = 1.0 if self._replicas == 1 else tf.reduce_sum(weights[i]) / totals[i]
            return self._train_once(self._batch(data, index, i), labels[i], weights[i], share)

        def body(i: Any, losses: Any, correct: Any) -> tuple[Any, Any, Any]:
            self._optimizer.learning_rate.assign(rates[i])
            results = self._strategy.run(part, (i, data, index, labels, weights))
            loss, right = (self._strategy.reduce("SUM", result, axis=None) for result in results)
            return i + 1, losses.write(i, loss), correct.write(i, right)

        size = rates.shape[0]
        start = (0, tf.TensorArray("float32", size, element_shape=()), tf.TensorArray("int32", size, element_shape=()))
        _, losses, correct = tf.while_loop(lambda i, *_: i < count, body, start, parallel_iterations=1)
        return losses.stack(), correct.stack()

    def _batch(self, data: Any, index: Sequence[Any], i: Any) -> Batch:
        rows = tf.gather(data, index[0][i])
        if self._packed:
            rows = unpack_pixels(rows, self._network.config.input_size)
        return (rows, *(array[i] for array in index[1:]))

    def _train_once(self, batch: Batch, labels: Any, weights: Any, share: Any = 1.0) -> tuple[Any, Any]:
        inputs = prepare(self._network, self._network.upper, batch)
        update = self._update if self._replicas == 1 else self._update_once
        result: tuple[Any, Any] = update(inputs, labels, weights, share)
        return result

    def _update_once(self, inputs: Any, labels: Any, weights: Any, share: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = self._network.upper(inputs, training=True)
            loss, correct = loss_and_correct(logits, labels, weights, self._label_smoothing)
            loss = loss * share
            scaled = self._optimizer.scale_loss(loss)
        self._optimizer.apply(tape.gradient(scaled, self._variables), self._variables)
        return loss, correct

    def _infer_many(self, data: Any, count: Any, index: Sequence[Any]) -> Any:
        def part(i: Any, data: Any, index: Sequence[Any]) -> Any:
            batch = self._batch(data, index, i)
            logits = self._network_logits if self._replicas == 1 else self._logits_once
            return logits(prepare(self._network, self._network.predictor, batch))

        def body(i: Any, logits: Any) -> tuple[Any, Any]:
            parts = self._strategy.experimental_local_results(self._strategy.run(part, (i, data, index)))
            return i + 1, logits.write(i, tf.concat(parts, 0))

        size = self._strategy.experimental_local_results(index[0])[0].shape
        start = (0, tf.TensorArray("float32", size[0], element_shape=(size[1] * self._replicas, len(CLASSES))))
        return tf.while_loop(lambda i, *_: i < count, body, start, parallel_iterations=1)[1].stack()

    def _logits_once(self, inputs: Any) -> Any:
        kept = self._network.upper.non_trainable_variables
        values = [[variable.value for variable in group] for group in (self._variables, kept)]
        return self._network.predictor.stateless_call(*values, inputs, training=False)[0]
