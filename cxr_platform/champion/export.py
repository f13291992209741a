"""Export of the champion's network to ONNX, so that no server needs Keras, and a test that both give the same answers.

    images (B, S, S) uint8  →  logits (B, 7) float32, features (B, F) float32

The graph scales images to −1…1, repeats them in three channels and takes batches of any size. `features` are the
spatial means of the last feature maps (layer "features").
"""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxr_platform.config import AugmentationConfig, ModelConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import BundleError, last_line
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.registry.bundle import FEATURES, IMAGES, LOGITS, Parity
from cxr_platform.validation import validate

if TYPE_CHECKING:
    from cxr_platform.models.mobilenet import Network

OPSET = 17
BATCH = 64
PARITY_IMAGES = 256
TOLERANCE = 1e-4
"""Largest allowed difference of a probability. Float32 sums in another order change one by about 1e-6 to 1e-5."""

Array = npt.NDArray[Any]


def champion_network(strategy: str, config: ModelConfig, weights: Path) -> "Network":
    """Return the network of `strategy` with `weights`, a Keras file of all its layers (`network.full`).

    Raise `BundleError` if the file cannot be read or belongs to another network.
    """
    from cxr_platform.models.mobilenet import build_network

    network = build_network(strategy_by_name(strategy), config)
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


def export_onnx(strategy: str, config: ModelConfig, weights: Path, file: Path) -> None:
    """Write the network of `strategy` with `weights` as ONNX to `file`; raise `BundleError` if the conversion fails.

    TensorFlow converts it, in a process of its own if Keras runs on another backend.
    """
    from cxr_platform.training.devices import keras_backend

    if keras_backend() == "tensorflow":
        _convert(strategy, config, weights, file)
        return
    request = {"strategy": strategy, "config": asdict(config), "weights": str(weights), "file": str(file)}
    command = [sys.executable, "-m", __name__, json.dumps(request)]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "tensorflow"}, capture_output=True, text=True)
    if done.returncode:
        raise BundleError(
            "Expected TensorFlow to convert the network to ONNX in a process of its own.",
            received=last_line(done.stderr or f"exit code {done.returncode}"),
            advice="It needs the packages tensorflow and tf2onnx, also for a network trained on another backend.",
        )


def onnx_answers(file: Path, images: Array) -> tuple[Array, Array]:
    """Return logits (N, 7) and features (N, F), float32, of uint8 images (N, S, S), by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    starts = range(0, max(1, len(images)), BATCH)
    parts = [session.run([LOGITS, FEATURES], {IMAGES: images[start : start + BATCH]}) for start in starts]
    logits, features = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return logits, features


def measure_parity(network: "Network", file: Path, images: Array, temperature: float) -> Parity:
    """Return the largest difference of a probability at `temperature` between Keras and the ONNX `file`.

    `images` are (N, S, S) uint8. Raise `BundleError` if the difference is above `TOLERANCE` or not a number.
    """
    ours = scale(keras_probabilities(network, images), temperature)
    theirs = scale(_softmax(onnx_answers(file, images)[0]), temperature)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise BundleError(
            f"Expected ONNX Runtime and Keras to give the same probabilities within {TOLERANCE:g} on {len(images)} "
            "images of the manifest.",
            received=f"a difference of {difference:g}",
            advice="No bundle was made. Install the versions of tensorflow, tf2onnx and onnxruntime in the lock file.",
        )
    return Parity(images=len(images), max_abs_difference=difference, tolerance=TOLERANCE)


def keras_probabilities(network: "Network", images: Array) -> Array:
    """Return probabilities (N, 7) of uint8 images (N, S, S) by Keras, with the inputs of a trial's prediction."""
    from cxr_platform.models.augment import to_network_input
    from cxr_platform.models.frozen import BATCH, pad
    from cxr_platform.training.inputs import ImageInputs, clean_batch

    inputs, parts = ImageInputs(images, AugmentationConfig()), []
    for start in range(0, len(images), BATCH):
        rows = np.arange(start, min(start + BATCH, len(images)))
        batch = to_network_input(*clean_batch(inputs, pad(rows, BATCH)))
        parts.append(_softmax(np.asarray(network.full.predict_on_batch(batch))[: len(rows)]))
    probabilities: Array = np.concatenate(parts)
    return probabilities


def evenly_spaced_rows(count: int, wanted: int = PARITY_IMAGES) -> Array:
    """Return at most `wanted` evenly spaced row numbers of `count` images."""
    rows: Array = np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))
    return rows


def _softmax(logits: Array) -> Array:
    from cxr_platform.training.trial import softmax

    probabilities: Array = softmax(logits.astype("float64"))
    return probabilities


def _convert(strategy: str, config: ModelConfig, weights: Path, file: Path) -> None:
    """Convert a function of ours, because `model.export` does not keep the names of outputs."""
    import keras
    import tensorflow as tf
    import tf2onnx

    from cxr_platform.models.augment import to_network_input

    full = champion_network(strategy, config, weights).full
    both = keras.Model(full.input, [full.output, full.get_layer("features").output])
    shape = (None, config.input_size, config.input_size)

    def answer(images: Any) -> dict[str, Any]:
        logits, features = both(to_network_input(images), training=False)
        return {LOGITS: logits, FEATURES: features}

    signature = [tf.TensorSpec(shape, tf.uint8, name=IMAGES)]
    traced = tf.function(answer, autograph=False, input_signature=signature)
    graph, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=OPSET)
    for tensor in (*graph.graph.input, *graph.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    file.write_bytes(graph.SerializeToString())


def _main(request: Mapping[str, Any]) -> None:
    config = validate(ModelConfig, request["config"], "model")
    _convert(request["strategy"], config, Path(request["weights"]), Path(request["file"]))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
