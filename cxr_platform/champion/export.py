"""The champion's network as an ONNX graph: grey images in, logits and features out; no Keras needed to answer.

    images (B, S, S) uint8  →  logits (B, 7) float32, features (B, F) float32

Scaling to −1…1 and the three equal channels are inside the graph; the batch is of any size. `features` are the means
over the image of the last feature maps (layer "features").
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

from cxr_platform.config import ModelConfig
from cxr_platform.errors import BundleError, last_line
from cxr_platform.registry.bundle import FEATURES, IMAGES, LOGITS
from cxr_platform.validation import validate

if TYPE_CHECKING:
    import numpy as np

    from cxr_platform.models.mobilenet import Network

OPSET = 17
BATCH = 64


def champion_network(strategy: str, config: ModelConfig, weights: Path) -> "Network":
    """The network of `strategy` with `weights`, a Keras file of all its layers (`network.full`).

    Raises `BundleError` where the file cannot be read or is of another network.
    """
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.models.mobilenet import build_network

    network = build_network(strategy_by_name(strategy), config)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # with which Keras leaves layers as they are, at random
            network.full.load_weights(weights)
    except (OSError, ValueError, UserWarning) as error:
        raise BundleError(
            f"Expected the weights of a {strategy} network of {config} at {weights}.",
            received=error,
            advice="Remove the champion's folder and run the same command again.",
        ) from error
    return network


def export_onnx(strategy: str, config: ModelConfig, weights: Path, file: Path) -> None:
    """Write the network of `strategy` with `weights` as ONNX to `file`.

    TensorFlow converts it: where Keras runs on another backend, in a process of its own. Raises `BundleError` where it
    cannot be converted.
    """
    from cxr_platform.training.devices import keras_backend

    if keras_backend() == "tensorflow":
        _convert(strategy, config, weights, file)
    else:
        _convert_elsewhere(strategy, config, weights, file)


def onnx_answers(file: Path, images: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Logits (N, 7) and features (N, F), float32, of uint8 images (N, S, S), by ONNX Runtime on the processor."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    starts = range(0, max(1, len(images)), BATCH)
    parts = [session.run([LOGITS, FEATURES], {IMAGES: images[start : start + BATCH]}) for start in starts]
    logits, features = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return logits, features


def _convert(strategy: str, config: ModelConfig, weights: Path, file: Path) -> None:
    """`tf2onnx` on our own function and not `model.export`, which knows nothing of names of outputs."""
    import keras
    import tensorflow as tf
    import tf2onnx

    from cxr_platform.models.augment import to_network_input

    full = champion_network(strategy, config, weights).full
    both = keras.Model(full.input, [full.output, full.get_layer("features").output])
    shape = (None, config.input_size, config.input_size)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, tf.uint8, name=IMAGES)])
    def answer(images: Any) -> dict[str, Any]:
        logits, features = both(to_network_input(images), training=False)
        return {LOGITS: logits, FEATURES: features}

    graph, _ = tf2onnx.convert.from_function(answer, input_signature=answer.input_signature, opset=OPSET)
    for tensor in (*graph.graph.input, *graph.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    file.write_bytes(graph.SerializeToString())


def _convert_elsewhere(strategy: str, config: ModelConfig, weights: Path, file: Path) -> None:
    request = {"strategy": strategy, "config": asdict(config), "weights": str(weights), "file": str(file)}
    command = [sys.executable, "-m", __name__, json.dumps(request)]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "tensorflow"}, capture_output=True, text=True)
    if done.returncode:
        raise BundleError(
            "Expected to be able to convert the network to ONNX with TensorFlow in a process of its own.",
            received=last_line(done.stderr or f"exit code {done.returncode}"),
            advice="It needs the packages tensorflow and tf2onnx, whatever backend the network was trained on.",
        )


def _main(request: Mapping[str, Any]) -> None:
    config = validate(ModelConfig, request["config"], "model")
    _convert(request["strategy"], config, Path(request["weights"]), Path(request["file"]))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
