"""The ONNX graph of a Keras network of the product, layer by layer (https://onnx.ai/onnx/operators/).

The layers of MobileNetV2 and its head are few, so that the graph is written here: it needs neither TensorFlow nor a
converter. `measure_parity` compares every graph with Keras before it is used.

Keras has channels last, ONNX first: kernels are transposed once, here, and the graph has no transposition.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cxr_platform.errors import BundleError
from cxr_platform.registry.bundle import FEATURES, IMAGES, LOGITS

OPSET = 17
IR_VERSION = 8
"""The format that came with `OPSET`; newer releases of onnx write another one that ONNX Runtime may not read."""


def network_graph(full: keras.Model) -> onnx.ModelProto:
    """Return the graph of `full`, images (B, S, S) uint8 → logits (B, 7) and the output of layer "features" (B, F).

    Raise `BundleError` for a layer that has no translation.
    """
    graph = _Graph()
    names = {full.input.name: graph.scaled_images()}
    for layer in full.layers[1:]:
        translate = next((each for kind, each in TRANSLATIONS.items() if isinstance(layer, kind)), None)
        if translate is None:
            raise BundleError(
                f"Expected layers out of {', '.join(kind.__name__ for kind in TRANSLATIONS)}.",
                received=f"{type(layer).__name__} ({layer.name})",
                advice="Add its translation to cxr_platform/champion/onnx_graph.py.",
            )
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        names[layer.output.name] = translate(graph, layer, *(names[tensor.name] for tensor in inputs))
    outputs = {LOGITS: full.output, FEATURES: full.get_layer("features").output}
    for name, tensor in outputs.items():
        graph.add("Identity", names[tensor.name], output=name)
    side = full.input.shape[1]
    inputs = [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["batch", side, side])]
    described = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", tensor.shape[-1]])
        for name, tensor in outputs.items()
    ]
    made = helper.make_graph(graph.nodes, "network", inputs, described, initializer=graph.constants)
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="cxr-platform"
    )


class _Graph:
    """Nodes and constants of a graph that is being written. Methods return the name of a tensor."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, values: Any, dtype: str = "float32") -> str:
        """Add values that the graph stores."""
        name = f"constant_{len(self.constants)}"
        array = np.ascontiguousarray(np.asarray(values, dtype))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def scaled_images(self) -> str:
        """Return the images as `to_network_input` does: −1…1 in three equal channels."""
        x = self.add("Cast", IMAGES, to=TensorProto.FLOAT)
        x = self.add("Sub", self.add("Div", x, self.constant(127.5)), self.constant(1.0))
        x = self.add("Unsqueeze", x, self.constant([1], "int64"))
        return self.add("Concat", x, x, x, axis=1)


def _convolution(graph: _Graph, layer: Any, x: str) -> str:
    """Kernels are (h, w, in, out), those by channel (h, w, channels, multiplier); in ONNX (out, in per group, h, w)."""
    kernel, groups = _array(layer.kernel), 1
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        groups = kernel.shape[2]
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    kernel = kernel.transpose(3, 2, 0, 1)
    size, strides = kernel.shape[2:], layer.strides
    pads = _same_padding(layer.input.shape[1:3], size, strides) if layer.padding == "same" else [0] * 4
    weights = [graph.constant(kernel), *([graph.constant(_array(layer.bias))] if layer.use_bias else [])]
    x = graph.add("Conv", x, *weights, kernel_shape=size, strides=strides, pads=pads, group=groups)
    return _activation(graph, layer, x)


def _same_padding(sides: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """Return the padding at the beginning of both axes and at their end, where Keras has the larger half."""
    whole = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sides, kernel, strides, strict=True)]
    return [*(n // 2 for n in whole), *(n - n // 2 for n in whole)]


def _zero_padding(graph: _Graph, layer: Any, x: str) -> str:
    (top, bottom), (left, right) = layer.padding
    return graph.add("Pad", x, graph.constant([0, 0, top, left, 0, 0, bottom, right], "int64"))


def _batch_normalization(graph: _Graph, layer: Any, x: str) -> str:
    arrays = [_array(v) for v in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)]
    return graph.add("BatchNormalization", x, *map(graph.constant, arrays), epsilon=layer.epsilon)


def _relu(graph: _Graph, layer: Any, x: str) -> str:
    if layer.max_value is None:
        return graph.add("Relu", x)
    return graph.add("Clip", x, graph.constant(0.0), graph.constant(layer.max_value))


def _dense(graph: _Graph, layer: Any, x: str) -> str:
    x = graph.add("Gemm", x, graph.constant(_array(layer.kernel)), graph.constant(_array(layer.bias)))
    return _activation(graph, layer, x)


def _activation(graph: _Graph, layer: Any, x: str) -> str:
    if layer.activation is keras.activations.relu:
        return graph.add("Relu", x)
    if layer.activation is keras.activations.linear:
        return x
    raise BundleError("Expected the activation relu or linear.", received=f"{layer.activation} of {layer.name}")


def _mean(graph: _Graph, _layer: Any, x: str) -> str:
    return graph.add("Flatten", graph.add("GlobalAveragePool", x))


def _array(variable: Any) -> NDArray[Any]:
    array: NDArray[Any] = keras.ops.convert_to_numpy(variable.value)
    return array


TRANSLATIONS: Mapping[type[Any], Callable[..., str]] = {
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _convolution,
    keras.layers.ZeroPadding2D: _zero_padding,
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.ReLU: _relu,
    keras.layers.Add: lambda graph, _layer, *inputs: graph.add("Add", *inputs),
    keras.layers.GlobalAveragePooling2D: _mean,
    keras.layers.Dense: _dense,
    keras.layers.Dropout: lambda _graph, _layer, x: x,
}
