"""Whether the ONNX graph answers as the Keras network does, measured on images of the manifest."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr_platform.champion.export import onnx_answers
from cxr_platform.config import AugmentationConfig
from cxr_platform.errors import BundleError
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.registry.bundle import Parity

if TYPE_CHECKING:
    from cxr_platform.models.mobilenet import Network

TOLERANCE = 1e-4
"""Of a probability. Float32 sums in another order move one by some 1e-6 to 1e-5."""

IMAGES = 256


def measure_parity(network: "Network", file: Path, images: np.ndarray, temperature: float) -> Parity:
    """The largest difference of the seven probabilities at `temperature` over `images` (N, S, S) uint8.

    Keras goes the way of a trial's prediction, its warp by nothing included. Raises `BundleError` where the difference
    is above `TOLERANCE`, or is no number.
    """
    ours = scale(keras_probabilities(network, images), temperature)
    theirs = scale(_softmax(onnx_answers(file, images)[0]), temperature)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise BundleError(
            f"Expected ONNX Runtime and Keras to give the same probabilities within {TOLERANCE:g} on {len(images)} "
            "images of the manifest.",
            received=f"a difference of {difference:g}",
            advice="No bundle was made. The conversion is at fault, not the study: check the versions of tensorflow, "
            "tf2onnx and onnxruntime against the lock file.",
        )
    return Parity(images=len(images), max_abs_difference=difference, tolerance=TOLERANCE)


def keras_probabilities(network: "Network", images: np.ndarray) -> np.ndarray:
    """Probabilities (N, 7) of uint8 images (N, S, S) by Keras, as a trial predicts."""
    from cxr_platform.models.augment import to_network_input
    from cxr_platform.models.frozen import BATCH, pad
    from cxr_platform.training.inputs import ImageInputs

    inputs, parts = ImageInputs(images, AugmentationConfig()), []
    for start in range(0, len(images), BATCH):
        rows = np.arange(start, min(start + BATCH, len(images)))
        batch = to_network_input(*inputs.clean_batch(pad(rows, BATCH)))
        parts.append(_softmax(np.asarray(network.full.predict_on_batch(batch))[: len(rows)]))
    return np.concatenate(parts)


def spread_out(count: int, wanted: int = IMAGES) -> np.ndarray:
    """Row numbers of at most `wanted` of `count` images, evenly over the manifest."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))


def _softmax(logits: np.ndarray) -> np.ndarray:
    from cxr_platform.training.trial import softmax

    return softmax(logits.astype("float64"))
