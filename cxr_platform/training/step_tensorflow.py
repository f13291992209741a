"""The step on the TensorFlow backend.

`tf.function(autograph=False)`: nothing in the step needs the conversion of Python control flow, which costs seconds.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from cxr_platform.models.mobilenet import Network
from cxr_platform.training.inputs import Batch
from cxr_platform.training.step import loss_and_correct, make_optimizer, prepare


class TensorFlowStep:
    """See `step.Step`. The network's variables are the state; there is nothing to write back."""

    def __init__(self, network: Network, weight_decay: float, label_smoothing: float) -> None:
        tf.config.experimental.enable_op_determinism()
        self._network = network
        self._label_smoothing = label_smoothing
        self._optimizer = make_optimizer(weight_decay)
        self._variables = network.upper.trainable_variables
        self._optimizer.build(self._variables)
        self._train = tf.function(self._train_once, autograph=False)
        self._infer = tf.function(self._infer_once, autograph=False)

    def reset(self) -> None:
        """Zero the optimiser's moments and its count of iterations."""
        for variable in self._optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    def train(self, batch: Batch, labels: Any, weights: Any, learning_rate: float) -> tuple[Any, Any]:
        """One step; the learning rate is a variable, so that a schedule does not trace anew."""
        self._optimizer.learning_rate.assign(learning_rate)
        return self._train(batch, labels, weights)

    def logits(self, batch: Batch) -> Any:
        """Logits (B, 7) in inference mode."""
        return self._infer(batch)

    def sync(self) -> None:
        """Nothing to do: variables are updated in place."""

    def _train_once(self, batch: Batch, labels: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = self._network.upper(prepare(self._network, batch), training=True)
            loss, correct = loss_and_correct(logits, labels, weights, self._label_smoothing)
        self._optimizer.apply(tape.gradient(loss, self._variables), self._variables)
        return loss, correct

    def _infer_once(self, batch: Batch) -> Any:
        return self._network.upper(prepare(self._network, batch), training=False)
