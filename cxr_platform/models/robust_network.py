"""The network of `robust`: one frozen backbone for all views of an image, and a linear head on their features.

The head is that of `training.robust_head`, which solves it. Logits are arranged so that softmax gives what `[robust]`
asks for: with `against = "normal"` the odds of Covid19 are those against Normal, less a margin, and with `gate` the
lower odds of two heads. Where these two disagree the answer is indeterminate (`domain.gate`).
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import ModelConfig, RobustConfig
from cxr_platform.domain.gate import disagreement
from cxr_platform.domain.strategies import ROBUST, strategy_by_name
from cxr_platform.labels import CLASSES, POSITIVE_CLASS, class_index
from cxr_platform.models.initial_weights import BackboneWeights, set_initial_weights
from cxr_platform.models.mobilenet import Network, build_network, cut_tensor

POSITIVE, NORMAL = class_index(POSITIVE_CLASS), class_index("Normal")
OTHERS = [place for place in range(len(CLASSES)) if place != POSITIVE]
ORDER = np.argsort([*OTHERS, POSITIVE])
"""Positions of the classes in an array that has Covid19 last."""


class ViewsAsBatch(keras.layers.Layer):
    """Views (B, V, S, S, 3) as a batch (B · V, S, S, 3)."""

    def call(self, inputs: Any) -> Any:
        """Return the views of all images, image by image."""
        return keras.ops.reshape(inputs, (-1, *inputs.shape[2:]))


class BatchAsViews(keras.layers.Layer):
    """Features (B · V, F) of views as (B, V · F)."""

    def __init__(self, views: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.views = views

    def call(self, inputs: Any) -> Any:
        """Return the features of the views of each image side by side."""
        return keras.ops.reshape(inputs, (-1, self.views * inputs.shape[-1]))


class RobustHead(keras.layers.Layer):
    """Logits (B, 7) of features (B, V · F) by one linear layer, or with `gate` by two."""

    def __init__(self, config: RobustConfig, **settings: Any) -> None:
        super().__init__(**settings)
        self.against_normal, self.margin = config.against == "normal", config.margin
        self.heads = 2 if config.gate else 1
        self.linear: list[tuple[Any, Any]] = []

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Add weights and bias of each linear layer."""
        for number in range(self.heads):
            kernel = self.add_weight(shape=(input_shape[-1], len(CLASSES)), name=f"kernel_{number}")
            self.linear.append((kernel, self.add_weight(shape=(len(CLASSES),), name=f"bias_{number}")))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the logits of the first linear layer with the odds of Covid19, the lower of two, in their place."""
        return self._logits(inputs, self.heads)

    def first_logits(self, inputs: Any) -> Any:
        """Return what the logits would be without the second linear layer."""
        return self._logits(inputs, 1)

    def _logits(self, inputs: Any, heads: int) -> Any:
        scores = [keras.ops.matmul(inputs, kernel) + bias for kernel, bias in self.linear[:heads]]
        others = keras.ops.take(scores[0], OTHERS, axis=1)
        odds = self._odds(scores[0])
        for score in scores[1:]:
            odds = keras.ops.minimum(odds, self._odds(score))
        positive = keras.ops.logsumexp(others, axis=1, keepdims=True) + odds
        return keras.ops.take(keras.ops.concatenate([others, positive], axis=1), ORDER, axis=1)

    def _odds(self, score: Any) -> Any:
        """Return the logarithm (B, 1) of the odds of Covid19."""
        if self.against_normal:
            return score[:, POSITIVE : POSITIVE + 1] - score[:, NORMAL : NORMAL + 1] - self.margin
        others = keras.ops.take(score, OTHERS, axis=1)
        return score[:, POSITIVE : POSITIVE + 1] - keras.ops.logsumexp(others, axis=1, keepdims=True)


def build_robust_network(
    model: ModelConfig, config: RobustConfig, imagenet: BackboneWeights | Mapping[str, list[NDArray[Any]]] | None = None
) -> Network:
    """Return the network of `robust`, with `imagenet` in its backbone if given; its head is to be set.

    `full` maps images (B, V, S, S, 3) in −1…1 to logits (B, 7), `upper` features (B, V · F).
    """
    shelf = build_network(strategy_by_name("off-the-shelf"), model)
    if imagenet is not None:
        set_initial_weights(shelf, 0, imagenet)
    backbone = keras.Model(shelf.full.input, cut_tensor(shelf.full, "features"), name="backbone")
    backbone.trainable = False
    views, side = len(config.views), model.input_size
    head = RobustHead(config, name="head_logits")
    images = keras.Input((views, side, side, 3), name="images")
    features = BatchAsViews(views, name="features")(backbone(ViewsAsBatch(name="views")(images)))
    full = keras.Model(images, head(features), name="full")
    given = keras.Input(features.shape[1:], name="view_features")
    upper = keras.Model(given, head(given), name="upper")
    return Network(strategy_by_name(ROBUST), model, full, upper, upper)


def has_gate(network: Network) -> bool:
    """Return True for a network of `robust` with two heads."""
    return network.strategy.is_solved and network.upper.get_layer("head_logits").heads > 1


def indeterminate_answers(network: Network, features: NDArray[Any]) -> NDArray[Any]:
    """Return where (B,) the heads of a network with a gate disagree on Covid19, from features (B, V · F) float32."""
    return disagreement(*_logits_at_gate(network, features))


def gate_margins(network: Network, features: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of Covid19 less the highest other one (B, 2), by the first head and behind the gate.

    Where one of the two is about 0, rounding decides whether the heads disagree.
    """
    margins = []
    for logits in _logits_at_gate(network, features):
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        margins.append(probabilities[:, POSITIVE] - probabilities[:, OTHERS].max(axis=1))
    return np.stack(margins, axis=1)


def _logits_at_gate(network: Network, features: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the logits (B, 7) of the first head, and those behind the gate."""
    head = network.upper.get_layer("head_logits")
    return [keras.ops.convert_to_numpy(logits(features)) for logits in (head.first_logits, head)]
