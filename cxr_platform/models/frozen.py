"""Frozen activations: the output at every cut, computed once for each image and each of its augmented views."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import AugmentationConfig, ModelConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.models.augment import draw_transforms, rotation_and_shift, to_network_input
from cxr_platform.models.initial_weights import BackboneWeights, set_initial_weights
from cxr_platform.models.mobilenet import build_network, cut_tensor

BATCH = 32


class FrozenBackbone:
    """MobileNetV2 with ImageNet weights up to each of `cuts`, in inference mode (also batch normalisation)."""

    def __init__(self, cuts: Sequence[str], config: ModelConfig, imagenet: BackboneWeights) -> None:
        network = build_network(strategy_by_name("off-the-shelf"), config)
        set_initial_weights(network, seed=0, imagenet=imagenet)
        images = keras.Input((config.input_size, config.input_size), batch_size=BATCH, dtype="uint8", name="images")
        transforms = keras.Input((8,), batch_size=BATCH, name="transforms")
        below = keras.Model(network.full.input, [cut_tensor(network.full, cut) for cut in cuts])
        outputs = below(_Prepare(name="prepare")(images, transforms), training=False)
        self._cuts = tuple(cuts)
        self._model = keras.Model([images, transforms], outputs)

    def activations(self, images: NDArray[Any], transforms: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return cut → float16 activations (N, …) of uint8 images (N, S, S) under transforms (N, 8)."""
        parts: dict[str, list[NDArray[Any]]] = {cut: [] for cut in self._cuts}
        for start in range(0, len(images), BATCH):
            batch, moves = images[start : start + BATCH], transforms[start : start + BATCH]
            outputs = self._model.predict_on_batch([pad(batch, BATCH), pad(moves, BATCH)])
            for cut, output in zip(self._cuts, outputs if len(self._cuts) > 1 else [outputs], strict=True):
                parts[cut].append(np.asarray(output)[: len(batch)].astype("float16"))
        return {cut: np.concatenate(arrays) for cut, arrays in parts.items()}


def view_transforms(count: int, input_size: int, config: AugmentationConfig, seed: int) -> NDArray[Any]:
    """Return transforms (1 + views, count, 8) float32 of `count` images; view 0 is the identity."""
    zeros = np.zeros(count)
    clean = rotation_and_shift(zeros, zeros, zeros, input_size)
    views = [
        draw_transforms(np.random.default_rng([seed, 1, view]), count, input_size, config)
        for view in range(config.views)
    ]
    return np.stack([clean, *views])


def chunks(count: int, size: int = 8 * BATCH) -> Iterator[slice]:
    """Yield consecutive slices of at most `size` images."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def pad(batch: NDArray[Any], size: int) -> NDArray[Any]:
    """Repeat `batch` along its first axis to exactly `size`, so that a compiled step gets a single shape."""
    return batch if len(batch) == size else np.resize(batch, (size, *batch.shape[1:]))


class _Prepare(keras.layers.Layer):
    def call(self, images: keras.KerasTensor, transforms: keras.KerasTensor) -> keras.KerasTensor:
        return to_network_input(images, transforms)
