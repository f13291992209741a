"""The step on the JAX backend: Keras' stateless calls under `jax.jit` (https://keras.io/guides/writing_a_custom_training_loop_in_jax/).

Each of several devices holds the whole state and its part of a batch. The compiled function computes the same as on one
device: JAX sums gradients, takes batch statistics and draws dropout over the whole batch
(https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Batch
from cxr_platform.training.step import StepState, loss_and_correct, make_optimizer, pack, prepare, unpack

State = tuple[list[Any], list[Any], list[Any]]
"""Trainable, non-trainable and optimiser variables."""


def count_devices() -> int:
    """Return the number of GPUs of this process, or of its (virtual) processors without a GPU."""
    return len(jax.local_devices())


def device_scope(_devices: int) -> AbstractContextManager[Any]:
    """Return a context that does nothing: the step places the state."""
    return nullcontext()


class JaxStep:
    """See `step.Step`. The state is kept here; `sync` writes it into the network."""

    def __init__(self, network: Network, weight_decay: float, label_smoothing: float, devices: int = 1) -> None:
        self._network = network
        self._label_smoothing = label_smoothing
        self._optimizer = make_optimizer(weight_decay)
        self._optimizer.build(network.upper.trainable_variables)
        self._rate_index = [v.path for v in self._optimizer.variables].index(self._optimizer.learning_rate.path)
        self._state: State = ([], [], [])
        mesh = Mesh(np.array(jax.local_devices()[:devices]), ("batch",))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._in_parts = NamedSharding(mesh, PartitionSpec("batch"))
        self._train = jax.jit(self._train_once)
        self._infer = jax.jit(self._infer_once)

    def reset(self) -> None:
        """Copy the network's variables; set the optimiser's to zero."""
        upper = self._network.upper
        state = (
            [v.value for v in upper.trainable_variables],
            [v.value for v in upper.non_trainable_variables],
            [jnp.zeros(v.shape, v.dtype) for v in self._optimizer.variables],
        )
        self._state = jax.device_put(state, self._everywhere)

    def train(self, batch: Batch, labels: Any, weights: Any, learning_rate: float) -> tuple[Any, Any]:
        """Run one step on the state."""
        batch, labels, weights = jax.device_put((batch, labels, weights), self._in_parts)
        self._state, loss, correct = self._train(self._state, batch, labels, weights, jnp.float32(learning_rate))
        return loss, correct

    def logits(self, batch: Batch) -> Any:
        """Return logits (B, 7) in inference mode."""
        return self._infer(self._state[0], self._state[1], batch)

    def sync(self) -> None:
        """Write trainable and non-trainable values into the network."""
        upper = self._network.upper
        for variables, values in (
            (upper.trainable_variables, self._state[0]),
            (upper.non_trainable_variables, self._state[1]),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def state(self) -> StepState:
        """Return a copy of the state."""
        return pack(*self._state)

    def restore(self, state: StepState) -> None:
        """Replace the state by `state`."""
        arrays = unpack(state, [[value.shape for value in group] for group in self._state])
        self._state = jax.device_put(arrays, self._everywhere)

    def _train_once(
        self, state: State, batch: Batch, labels: Any, weights: Any, learning_rate: Any
    ) -> tuple[State, Any, Any]:
        trainable, non_trainable, optimizer = state

        def loss_of(trainable: list[Any]) -> tuple[Any, tuple[Any, Any]]:
            logits, updated = self._network.upper.stateless_call(
                trainable, non_trainable, prepare(self._network, batch), training=True
            )
            loss, correct = loss_and_correct(logits, labels, weights, self._label_smoothing)
            return loss, (correct, updated)

        (loss, (correct, non_trainable)), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        optimizer = [learning_rate if i == self._rate_index else v for i, v in enumerate(optimizer)]
        trainable, optimizer = self._optimizer.stateless_apply(optimizer, gradients, trainable)
        return (list(trainable), list(non_trainable), list(optimizer)), loss, correct

    def _infer_once(self, trainable: list[Any], non_trainable: list[Any], batch: Batch) -> Any:
        logits, _ = self._network.upper.stateless_call(
            trainable, non_trainable, prepare(self._network, batch), training=False
        )
        return logits
