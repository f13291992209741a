"""The ONNX graph of a Keras network of the product, layer by layer (https://onnx.ai/onnx/operators/).

The layers of MobileNetV2 and its head are few, so that the graph is written here: it needs neither TensorFlow nor a
converter. `measure_parity` compares every graph with Keras before it is used.

Keras has channels last, ONNX first: kernels are transposed once, here, and the graph has no transposition.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cxr_platform.errors import BundleError
from cxr_platform.models.mobilenet import same_padding
from cxr_platform.models.robust_network import NORMAL, ORDER, OTHERS, POSITIVE
from cxr_platform.registry.bundle import DISAGREEMENT, FEATURES, IMAGES, LOGITS

OPSET = 17
IR_VERSION = 8
"""The format that came with `OPSET`; newer releases of onnx write another one that ONNX Runtime may not read."""


def network_graph(full: keras.Model) -> onnx.ModelProto:
    """Return the graph of `full`, images (B, S, S) uint8 → logits (B, 7) and the output of layer "features" (B, F).

    Raise `BundleError` for a layer that has no translation.
    """
    graph, features = _Graph(), full.get_layer("features").output
    names = _translated(graph, full, graph.scaled_images(IMAGES))
    graph.add("Identity", names[full.output.name], output=LOGITS)
    graph.add("Identity", names[features.name], output=FEATURES)
    return graph.model(full.input.shape[1:-1], {LOGITS: full.output.shape[-1], FEATURES: features.shape[-1]})


def views_graph(full: keras.Model) -> onnx.ModelProto:
    """Return the graph of `full`, a `robust_network`: views (B, V, S, S) uint8 → logits (B, 7), features (B, F).

    The head gets the features of each view, the output "features" is their mean over the views. With a gate there is
    the output `DISAGREEMENT` (B, 1) bool.
    """
    graph, backbone, head = _Graph(), full.get_layer("backbone"), full.get_layer("head_logits")
    views, side = full.input.shape[1:3]
    width = backbone.output.shape[-1]
    images = graph.reshaped(IMAGES, (-1, side, side))
    of_views = _translated(graph, backbone, graph.scaled_images(images))[backbone.output.name]
    of_image = graph.reshaped(of_views, (-1, views * width))
    graph.add("ReduceMean", graph.reshaped(of_views, (-1, views, width)), output=FEATURES, axes=[1], keepdims=0)
    graph.add("Identity", _robust_head(graph, head, of_image), output=LOGITS)
    flags = [DISAGREEMENT] if head.heads > 1 else []
    return graph.model((views, side, side), {LOGITS: full.output.shape[-1], FEATURES: width}, flags)


def _translated(graph: "_Graph", model: keras.Model, given: str) -> dict[str, str]:
    """Add the layers of `model`, whose input is the tensor `given`; return Keras' name → name in the graph."""
    names = {model.input.name: given}
    for layer in model.layers[1:]:
        translate = next((each for kind, each in TRANSLATIONS.items() if isinstance(layer, kind)), None)
        if translate is None:
            raise BundleError(
                f"Expected layers out of {', '.join(kind.__name__ for kind in TRANSLATIONS)}.",
                received=f"{type(layer).__name__} ({layer.name})",
                advice="Add its translation to cxr_platform/champion/onnx_graph.py.",
            )
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        names[layer.output.name] = translate(graph, layer, *(names[tensor.name] for tensor in inputs))
    return names


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

    def reshaped(self, x: str, shape: tuple[int, ...]) -> str:
        """Return `x` in another shape, of which one number may be -1."""
        return self.add("Reshape", x, self.constant(shape, "int64"))

    def model(self, sides: tuple[int, ...], widths: Mapping[str, int], flags: Sequence[str] = ()) -> onnx.ModelProto:
        """Return the graph as a model, of images (B, *`sides`) and outputs (B, width); `flags` are (B, 1) bool."""
        inputs = [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["batch", *sides])]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, width in widths.items()
        ]
        outputs += [helper.make_tensor_value_info(name, TensorProto.BOOL, ["batch", 1]) for name in flags]
        made = helper.make_graph(self.nodes, "network", inputs, outputs, initializer=self.constants)
        return helper.make_model(
            made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="cxr-platform"
        )

    def scaled_images(self, images: str) -> str:
        """Return uint8 images (B, S, S) as `to_network_input` does: −1…1 in three equal channels."""
        x = self.add("Cast", images, to=TensorProto.FLOAT)
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
    pads = [0] * 4
    if layer.padding == "same":
        ends = map(same_padding, layer.input.shape[1:3], size, strides)
        pads = [zeros for side in zip(*ends, strict=True) for zeros in side]  # both beginnings, then both ends
    weights = [graph.constant(kernel), *([graph.constant(_array(layer.bias))] if layer.use_bias else [])]
    x = graph.add("Conv", x, *weights, kernel_shape=size, strides=strides, pads=pads, group=groups)
    return _activation(graph, layer, x)


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


def _robust_head(graph: _Graph, layer: Any, x: str) -> str:
    """As `RobustHead.call` does; with two heads add the output `DISAGREEMENT` too, as `domain.gate` defines it."""
    others = graph.constant(OTHERS, "int64")
    scores = [graph.add("Gemm", x, *(graph.constant(_array(v)) for v in linear)) for linear in layer.linear]

    def odds(score: str) -> str:
        positive = graph.add("Gather", score, graph.constant([POSITIVE], "int64"), axis=1)
        if layer.against_normal:
            normal = graph.add("Gather", score, graph.constant([NORMAL], "int64"), axis=1)
            return graph.add("Sub", graph.add("Sub", positive, normal), graph.constant(layer.margin))
        return graph.add("Sub", positive, sum_of_others(score))

    def sum_of_others(score: str) -> str:
        return graph.add("ReduceLogSumExp", graph.add("Gather", score, others, axis=1), axes=[1], keepdims=1)

    whole, each_odds = sum_of_others(scores[0]), [odds(score) for score in scores]
    positive = graph.add("Add", whole, graph.add("Min", *each_odds))
    if len(scores) > 1:
        highest = graph.add("ReduceMax", graph.add("Gather", scores[0], others, axis=1), axes=[1], keepdims=1)
        of_first = graph.add("Greater", graph.add("Add", whole, each_odds[0]), highest)
        of_both = graph.add("Greater", positive, highest)
        graph.add("And", of_first, graph.add("Not", of_both), output=DISAGREEMENT)
    logits = graph.add("Concat", graph.add("Gather", scores[0], others, axis=1), positive, axis=1)
    return graph.add("Gather", logits, graph.constant(ORDER, "int64"), axis=1)


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
