"""Where in an image a network finds what it answers: HiResCAM at three depths, multiplied.

At each of three layers (the last ones at a quarter, an eighth and a sixteenth of the image's side) every place gets the
sum over channels of gradient × (activation − its mean over the image), negative sums set to zero. That is HiResCAM
(Draelos & Carin 2020, arXiv:2011.08891) of what a place has and the rest of the image has not. The three maps are
multiplied, so that only places remain on which all depths agree. Explained is a class's logit less the mean of all.

Why not Grad-CAM at the last convolution (Selvaraju et al. 2017): at 96 pixels it has 3 × 3 cells, each of which sees
the whole image. Measured on planted images of 96 pixels (tests/evidence/builders.py, 40 unseen images, all answered
right), mean share of a map that falls on the planted sign, over the classes that have one:

                                   in the corner (3 % of the image)    in the lungs (22 %)
    fine-tuning-5  Grad-CAM                                    3 %                   33 %
    fine-tuning-5  this                                       70 %                   53 %
    off-the-shelf  Grad-CAM                                     2 %                   24 %
    off-the-shelf  this                                       69 %                   56 %

On the corner images Grad-CAM puts 75 % of its heat into the lungs, where there is nothing; this puts 9 % there.
LayerCAM, SmoothGrad, integrated gradients and occlusion by patches did worse on one of the two sets or on both.
Images that a class is told by what they lack have no place to point to, and their maps mean little.

A check that it does not pass on every image (Adebayo et al. 2018): on 60 images of the public sources the networks of a
fine-tuned study had lung shares of 38 to 48 %, and with the weights of their head shuffled of 34 to 49 %. What a
backbone answers to draws the map as much as what the head makes of it: a low share alone proves no shortcut.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from PIL import Image

from cxr_platform.errors import ConfigError
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH, pad
from cxr_platform.models.mobilenet import Network

LAYERS = ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu")
"""Everything that an image tells the network passes through each of these: no shortcut connection spans them."""

LOGITS, FEATURES = "head_logits", "head_dropout"
"""What can be explained: the classes' logits, or the features that they are computed from."""

_IMPLEMENTATIONS = {
    "tensorflow": "cxr_platform.explain.saliency_tensorflow",
    "jax": "cxr_platform.explain.saliency_jax",
}

Places = Callable[[np.ndarray, np.ndarray], Sequence[Any]]
"""Input (B, S, S, 3) in −1…1 and weights (B, K) of the outputs → a map (B, h, w) ≥ 0 for each of `LAYERS`."""


def heatmaps(network: Network, images: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Maps (N, h, w) float32 in 0…1 for uint8 images (N, S, S) and the classes `target` (N,), positions in `CLASSES`.

    h = w = S / 4; the greatest value of each is 1. An image in which nothing speaks for the class, or whose gradients
    are not finite, has a map of zeros.
    Raises `ConfigError` for a Keras backend other than TensorFlow and JAX.
    """
    classes = network.full.output.shape[-1]
    return _maps(network, LOGITS, images, np.eye(classes, dtype="float32")[target] - np.float32(1 / classes))


def feature_heatmaps(network: Network, images: np.ndarray, features: np.ndarray) -> np.ndarray:
    """As `heatmaps`, for the features of the numbers `features` (N,), as `atlas.penultimate` counts them."""
    weights = np.zeros((len(images), network.config.dense_units), "float32")
    weights[np.arange(len(images)), features] = 1
    return _maps(network, FEATURES, images, weights)


def segments(network: Network, output: str) -> list[keras.Model]:
    """The network cut at `LAYERS`: image → first layer → … → `output`. The layers are shared, not copied."""
    cuts = [network.full.input, *(network.full.get_layer(name).output for name in (*LAYERS, output))]
    return [keras.Model(lower, upper) for lower, upper in pairwise(cuts)]


def evidence_of_place(activation: Any, gradient: Any) -> Any:
    """(B, h, w, C) twice → (B, h, w) ≥ 0: what each place has beyond the image's mean and that raises the score."""
    beyond = activation - keras.ops.mean(activation, axis=(1, 2), keepdims=True)
    return keras.ops.relu(keras.ops.sum(beyond * gradient, axis=-1))


def _maps(network: Network, output: str, images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    places = _places(network, output)
    parts = [_multiplied(maps) for maps in _batches(places, images, weights)]
    return np.concatenate(parts) if parts else np.zeros((0, images.shape[1] // 4, images.shape[1] // 4), "float32")


@lru_cache(maxsize=2)  # compiled once for a network, whose weights change from fold to fold
def _places(network: Network, output: str) -> Places:
    backend = keras.backend.backend()
    if backend not in _IMPLEMENTATIONS:
        raise ConfigError("Expected KERAS_BACKEND to be tensorflow or jax.", received=repr(backend))
    make: Callable[[list[keras.Model]], Places] = importlib.import_module(_IMPLEMENTATIONS[backend]).make_places
    return make(segments(network, output))


def _batches(places: Places, images: np.ndarray, weights: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Two shapes are ever compiled: whole batches for a report, and a single image."""
    size = 1 if len(images) == 1 else BATCH
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        inputs = keras.ops.convert_to_numpy(to_network_input(pad(batch, size)))
        maps = places(inputs, pad(weights[start : start + size], size))
        yield [np.asarray(keras.ops.convert_to_numpy(m))[: len(batch)] for m in maps]


def _multiplied(maps: Sequence[np.ndarray]) -> np.ndarray:
    """The product of the maps at the size of the first and finest, each scaled to a greatest value of 1."""
    side = maps[0].shape[1]
    product = np.prod([_scaled(np.stack([_enlarged(m, side) for m in level])) for level in maps], axis=0)
    return _scaled(product)


def _enlarged(values: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values.astype("float32")).resize((side, side), Image.Resampling.BILINEAR))


def _scaled(maps: np.ndarray) -> np.ndarray:
    greatest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, greatest, out=np.zeros_like(maps), where=(greatest > 0) & np.isfinite(greatest))
