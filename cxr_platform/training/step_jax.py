"""The step on the JAX backend: Keras' stateless calls under `jax.jit` (https://keras.io/guides/writing_a_custom_training_loop_in_jax/).

On a GPU many steps are one `lax.fori_loop` over a state whose memory is reused (`donate_argnums`); the number of steps
is an argument, so that one compiled function serves every epoch. On a processor a step is a call: XLA computes what is
inside a loop four times slower there (docs/results/2026-11-28-jax.md).

Each of several devices holds the whole state and its part of a batch. The compiled function computes the same as on one
device: JAX sums gradients, takes batch statistics and draws dropout over the whole batch
(https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Array, Batch, Index, Inputs
from cxr_platform.training.step import (
    ONE_PROCESSOR,
    STEPS_PER_CALL,
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

State = tuple[list[Any], list[Any], list[Any]]
"""Trainable, non-trainable and optimiser variables."""


def count_devices() -> int:
    """Return the number of GPUs of this process, or of its (virtual) processors without a GPU."""
    return len(jax.local_devices())


def gpu_is_visible() -> bool:
    """Return True if JAX computes on a GPU."""
    return bool(jax.default_backend() == "gpu")


def device_scope(_devices: int) -> AbstractContextManager[Any]:
    """Return a context that does nothing: the step places the state."""
    return nullcontext()


class JaxStep:
    """See `step.Step`. The state is kept here; `sync` writes it into the network."""

    def __init__(
        self,
        network: Network,
        weight_decay: float,
        label_smoothing: float,
        placement: Placement = ONE_PROCESSOR,
    ) -> None:
        self._network = network
        self._label_smoothing = label_smoothing
        self._optimizer = make_optimizer(weight_decay, network.precision)
        self._optimizer.build(network.upper.trainable_variables)
        self._rate_index = [v.path for v in self._optimizer.variables].index(self._optimizer.learning_rate.path)
        self._state: State = ([], [], [])
        mesh = Mesh(np.array(jax.local_devices()[: placement.devices]), ("batch",))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._in_parts = NamedSharding(mesh, PartitionSpec(None, "batch"))
        self._source = BatchSource(self._put, placement.resident_bytes, STEPS_PER_CALL if gpu_is_visible() else 1)
        self._train = jax.jit(self._train_many, donate_argnums=0)
        self._infer = jax.jit(self._infer_many)

    def load(self, inputs: Inputs) -> bool:
        """Put the arrays of `inputs` on every device if they fit."""
        return self._source.load(inputs.arrays)

    def unload(self) -> None:
        """Free the memory of the loaded arrays."""
        self._source.unload()

    def reset(self) -> None:
        """Copy the network's variables; set the optimiser's to their initial values."""
        upper = self._network.upper
        state = (
            [jnp.array(v.value) for v in upper.trainable_variables],  # copies: the state's memory is reused
            [jnp.array(v.value) for v in upper.non_trainable_variables],
            [jnp.array(v.value) for v in self._optimizer.variables],
        )
        self._state = jax.device_put(state, self._everywhere)

    def train(self, steps: Steps) -> tuple[NDArray[Any], NDArray[Any]]:
        """Run the steps on the state."""
        losses, correct = [], []
        rates = np.broadcast_to(steps.learning_rates[:, None], steps.labels.shape)  # one per image: split like a batch
        with closing(self._source.calls((*steps.index, steps.labels, steps.weights, rates))) as calls:
            for call in calls:
                *index, labels, weights, rate = jax.device_put(call.arrays, self._in_parts)
                self._state, loss, right = self._train(self._state, call.data, call.count, index, labels, weights, rate)
                losses.append(loss[: call.count])
                correct.append(right[: call.count])
        return np.concatenate(losses), np.concatenate(correct)

    def logits(self, index: Index) -> NDArray[Any]:
        """Return logits (K, B, 7) in inference mode."""
        parts = []
        with closing(self._source.calls(index)) as calls:
            for call in calls:
                arrays = jax.device_put(call.arrays, self._in_parts)
                parts.append(self._infer(self._state[0], self._state[1], call.data, call.count, arrays)[: call.count])
        return np.concatenate(parts)

    def sync(self) -> None:
        """Write trainable and non-trainable values into the network."""
        upper = self._network.upper
        for variables, values in (
            (upper.trainable_variables, self._state[0]),
            (upper.non_trainable_variables, self._state[1]),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(jnp.array(value))

    def state(self) -> StepState:
        """Return a copy of the state."""
        return pack(*self._state)

    def restore(self, state: StepState) -> None:
        """Replace the state by `state`."""
        arrays = unpack(state, [[value.shape for value in group] for group in self._state])
        self._state = jax.device_put(arrays, self._everywhere)

    def _put(self, arrays: Sequence[Array]) -> Any:
        """Copy `arrays` to every device, one after the other, as one."""
        parts = [jax.device_put(np.asarray(array), self._everywhere) for array in arrays]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    def _train_many(
        self, state: State, data: Any, count: Any, index: list[Any], labels: Any, weights: Any, rates: Any
    ) -> tuple[State, Any, Any]:
        def body(i: Any, carry: tuple[State, Any, Any]) -> tuple[State, Any, Any]:
            state, losses, correct = carry
            batch = (data[index[0][i]], *(array[i] for array in index[1:]))
            state, loss, right = self._train_once(state, batch, labels[i], weights[i], rates[i, 0])
            return state, losses.at[i].set(loss), correct.at[i].set(right)

        size = labels.shape[0]
        start = (state, jnp.zeros(size), jnp.zeros(size, "int32"))
        result: tuple[State, Any, Any] = _repeat(body, start, count, size)
        return result

    def _train_once(
        self, state: State, batch: Batch, labels: Any, weights: Any, learning_rate: Any
    ) -> tuple[State, Any, Any]:
        trainable, non_trainable, optimizer = state

        def loss_of(trainable: list[Any]) -> tuple[Any, tuple[Any, Any, Any]]:
            logits, updated = self._network.upper.stateless_call(
                trainable, non_trainable, prepare(self._network, self._network.upper, batch), training=True
            )
            loss, correct = loss_and_correct(logits, labels, weights, self._label_smoothing)
            with keras.StatelessScope(state_mapping=list(zip(self._optimizer.variables, optimizer, strict=True))):
                return self._optimizer.scale_loss(loss), (loss, correct, updated)

        (_, (loss, correct, non_trainable)), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        optimizer = [learning_rate if i == self._rate_index else v for i, v in enumerate(optimizer)]
        trainable, optimizer = self._optimizer.stateless_apply(optimizer, gradients, trainable)
        return (list(trainable), list(non_trainable), list(optimizer)), loss, correct

    def _infer_many(
        self, trainable: list[Any], non_trainable: list[Any], data: Any, count: Any, index: tuple[Any, ...]
    ) -> Any:
        predictor = self._network.predictor

        def body(i: Any, logits: Any) -> Any:
            batch = (data[index[0][i]], *(array[i] for array in index[1:]))
            inputs = prepare(self._network, predictor, batch)
            return logits.at[i].set(predictor.stateless_call(trainable, non_trainable, inputs, training=False)[0])

        return _repeat(body, jnp.zeros((*index[0].shape, len(CLASSES))), count, len(index[0]))


def _repeat(body: Callable[[Any, Any], Any], start: Any, count: Any, most: int) -> Any:
    """Return `start` after `count` calls of `body(i, carry)`, of at most `most`; one call needs no loop."""
    return body(0, start) if most == 1 else jax.lax.fori_loop(0, count, body, start)
