"""Export of the champion's network to ONNX, so that no server needs Keras, and a test that both give the same answers.

    images (B, S, S) uint8  →  logits (B, 7) float32, features (B, F) float32

The graph scales images to −1…1, repeats them in three channels and takes batches of any size; that of `robust` takes
views, (B, V, S, S). `features` are the spatial means of the last feature maps (layer "features"), and of all views.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxr_platform.config import ModelConfig, RobustConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import BundleError
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.registry.bundle import DISAGREEMENT, FEATURES, IMAGES, LOGITS, Parity

if TYPE_CHECKING:
    from cxr_platform.models.mobilenet import Network
    from cxr_platform.training.image_files import ImageFile

BATCH = 64
PARITY_IMAGES = 256
TOLERANCE = 1e-4
"""Largest allowed difference of a probability. Float32 sums in another order change one by about 1e-6 to 1e-5."""

ADVICE = "No bundle was made. Install the versions of keras and onnxruntime in the lock file."

Array = npt.NDArray[Any]


def champion_network(
    strategy: str, config: ModelConfig, weights: Path, robust: RobustConfig | None = None
) -> "Network":
    """Return the network of `strategy` with `weights`, a Keras file of all its layers (`network.full`).

    That of the strategy `robust` has the settings `robust`.

    Raise `BundleError` if the file cannot be read or belongs to another network.
    """
    from cxr_platform.models.mobilenet import build_network
    from cxr_platform.models.robust_network import build_robust_network

    chosen = strategy_by_name(strategy)
    if chosen.is_solved:
        network = build_robust_network(config, robust or RobustConfig())
    else:
        network = build_network(chosen, config)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns if it leaves layers at random weights
            network.full.load_weights(weights)
    except (OSError, ValueError, UserWarning) as error:
        raise BundleError(
            f"Expected the weights of a {strategy} network of {config} at {weights}.",
            received=error,
            advice="Remove the champion's folder and run the same command again.",
        ) from error
    return network


def export_onnx(network: "Network", file: Path) -> None:
    """Write `network` as ONNX to `file`; raise `BundleError` if it cannot be done."""
    from cxr_platform.champion.onnx_graph import network_graph, views_graph

    graph = views_graph(network.full) if network.strategy.is_solved else network_graph(network.full)
    file.write_bytes(graph.SerializeToString())


def onnx_answers(file: Path, images: "Array | ImageFile") -> tuple[Array, Array]:
    """Return logits (N, 7) and features (N, F), float32, by ONNX Runtime on the CPU.

    `images` are uint8 (N, S, S), or views (N, V, S, S).
    """
    logits, features = _onnx_outputs(file, images, (LOGITS, FEATURES))
    return logits, features


def _onnx_outputs(file: Path, images: "Array | ImageFile", names: Sequence[str]) -> list[Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    starts = range(0, max(1, len(images)), BATCH)
    parts = [session.run(names, {IMAGES: images[start : start + BATCH]}) for start in starts]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def measure_parity(network: "Network", file: Path, images: Array, temperature: float) -> Parity:
    """Return the largest difference of a probability at `temperature` between Keras and the ONNX `file`.

    `images` are (N, S, S) uint8, or views (N, V, S, S). Raise `BundleError` if the difference is above `TOLERANCE` or
    not a number, or if the heads of a gate disagree on other images, but for those where rounding decides.
    """
    from cxr_platform.training.trial import predict_images

    ours = scale(predict_images(network, images), temperature)
    theirs = scale(_softmax(onnx_answers(file, images)[0]), temperature)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise BundleError(
            f"Expected ONNX Runtime and Keras to give the same probabilities within {TOLERANCE:g} on {len(images)} "
            "images of the manifest.",
            received=f"a difference of {difference:g}",
            advice=ADVICE,
        )
    _check_gate(network, file, images)
    return Parity(images=len(images), max_abs_difference=difference, tolerance=TOLERANCE)


def _check_gate(network: "Network", file: Path, images: Array) -> None:
    """Raise `BundleError` if Keras and the ONNX `file` tell a disagreement for other images, but for near ties."""
    from cxr_platform.training.robust_trial import image_gate_margins, indeterminate_images

    ours = indeterminate_images(network, images)
    if ours is None:
        return
    (theirs,) = _onnx_outputs(file, images, (DISAGREEMENT,))
    rows = np.flatnonzero(ours != theirs[:, 0])
    if len(rows):
        rows = rows[np.abs(image_gate_margins(network, images[rows])).min(axis=1) >= TOLERANCE]
    if len(rows):
        raise BundleError(
            f"Expected ONNX Runtime and Keras to leave the same of {len(images)} images of the manifest "
            f"indeterminate, but for differences of probabilities below {TOLERANCE:g}.",
            received=f"other answers for {len(rows)} images",
            advice=ADVICE,
        )


def evenly_spaced_rows(count: int, wanted: int = PARITY_IMAGES) -> Array:
    """Return at most `wanted` evenly spaced row numbers of `count` images."""
    rows: Array = np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))
    return rows


def _softmax(logits: Array) -> Array:
    from cxr_platform.training.trial import softmax

    probabilities: Array = softmax(logits.astype("float64"))
    return probabilities
