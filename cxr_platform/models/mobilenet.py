"""MobileNetV2 with the paper's head, split at the last frozen block (§2.3.1, §2.4)."""

from dataclasses import dataclass, replace
from typing import Any

import keras

from cxr_platform.config import ModelConfig, Precision
from cxr_platform.domain.strategies import BLOCKS, VIEWS, Strategy
from cxr_platform.labels import CLASSES

HEAD_LAYERS = ("head_dense", "head_bn", "head_dropout", "head_logits")


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, whose training in float32 under TensorFlow is one operation in each direction.

    It has the name of Keras' class because a weights file addresses layers by it: files stay exchangeable.
    Keras computes means and squares of whole feature maps one after another. The result differs in rounding.
    Source: https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised feature maps (B, H, W, C); the moving statistics are updated where Keras does."""
        fused = keras.backend.backend() == "tensorflow" and self.compute_dtype == "float32"
        if not (training and self.trainable and fused) or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        values = tf.cast(tf.size(inputs) / tf.size(mean), "float32")
        biased = variance * (values - 1) / values  # the operation divides by one less; Keras does not
        for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, biased)):
            moving.assign(moving * self.momentum + of_batch * (1 - self.momentum))
        return outputs


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras' layer, which adds up one shifted product per element of the kernel on JAX without a GPU.

    XLA joins these into one operation, which is faster there than its own convolution by channel; on a GPU that is
    cuDNN's, and the faster one (docs/results/2026-11-28-jax.md and 2026-11-28-gpu.md). Sums are in float32, as in a
    convolution; the result differs in rounding. It has the name of Keras' class because a weights file addresses layers
    by it.
    """

    def call(self, inputs: Any) -> Any:
        """Return the feature maps (B, H, W, C)."""
        is_usual = self.data_format == "channels_last" and self.depth_multiplier == 1 and self.dilation_rate == (1, 1)
        if not (is_usual and _runs_on_processor_with_jax()):
            return super().call(inputs)
        (height, width), (down, right) = self.kernel_size, self.strides
        x, kernel = keras.ops.cast(inputs, "float32"), keras.ops.cast(self.kernel[..., 0], "float32")
        if self.padding == "same":
            x = keras.ops.pad(x, [(0, 0), *map(same_padding, x.shape[1:3], self.kernel_size, self.strides), (0, 0)])
        rows, columns = (x.shape[1] - height) // down * down + 1, (x.shape[2] - width) // right * right + 1
        products = [
            x[:, i : i + rows : down, j : j + columns : right] * kernel[i, j]
            for i in range(height)
            for j in range(width)
        ]
        outputs = sum(products) + self.bias if self.use_bias else sum(products)
        return self.activation(keras.ops.cast(outputs, self.compute_dtype))


@dataclass(frozen=True)
class Network:
    """Network of one strategy. `full` is the frozen part followed by `upper`; they share their layers.

    `full` maps images (B, S, S, 3) in −1…1 to logits (B, 7); `upper` maps activations at `strategy.cut` to the same
    logits and has all layers that are trained. `lower` maps images to these activations. For scratch `full` and `upper`
    are the same model, and `lower` is `None`.

    `predictor` is `upper` in float32, for predictions: with a mixed `precision` a model of its own, whose variables are
    in the order of `upper`'s and have to be given to its `stateless_call`.
    """

    strategy: Strategy
    config: ModelConfig
    full: keras.Model
    upper: keras.Model
    predictor: keras.Model
    precision: Precision = "float32"
    lower: keras.Model | None = None

    @property
    def trained_layers(self) -> list[str]:
        """Names of the Keras layers whose weights are trained, from bottom to top."""
        return [layer.name for layer in self.full.layers if layer.trainable and layer.weights]


def build_backbone(config: ModelConfig) -> keras.Model:
    """Return MobileNetV2 without classifier and pretrained weights: (B, S, S, 3) in −1…1 → (B, s, s, 1280).

    Source: https://keras.io/api/applications/mobilenet/. The weights are set by `initial_weights`.
    """
    shape = (config.input_size, config.input_size, 3)
    keras_model = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=shape, alpha=config.alpha, name="mobilenetv2"
    )
    return keras.models.clone_model(keras_model, clone_function=_with_own_layers)


def _with_own_layers(layer: keras.Layer) -> keras.Layer:
    kind = next((own for own in (BatchNormalization, DepthwiseConv2D) if isinstance(layer, own.__base__)), type(layer))
    return kind.from_config(layer.get_config())


def _runs_on_processor_with_jax() -> bool:
    if keras.backend.backend() != "jax":
        return False
    import jax

    return bool(jax.default_backend() != "gpu")


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after `side` values for padding "same", of which the larger half is at the end."""
    zeros = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return zeros // 2, zeros - zeros // 2


def build_network(strategy: Strategy, config: ModelConfig, precision: Precision = "float32") -> Network:
    """Return the network of `strategy`: layers above the cut are trainable, those below are not.

    `precision` is Keras' policy (https://keras.io/api/mixed_precision/): with a mixed one layers compute in 16 bits,
    while weights, statistics of batch normalisation, logits and predictions are float32.

    Batch normalisation uses `config.batch_norm_momentum`: with Keras' 0.999 the moving statistics would lag thousands
    of steps behind, more than a study of this size has.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        network = _build(strategy, config, precision)
    finally:
        keras.config.set_dtype_policy(before)
    if precision == "float32":
        return network
    return replace(network, predictor=build_network(strategy, config).upper)


def _build(strategy: Strategy, config: ModelConfig, precision: Precision) -> Network:
    backbone = build_backbone(config)
    _set_trainable(backbone, strategy)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = config.batch_norm_momentum
    pooled = keras.layers.GlobalAveragePooling2D(name="features")(backbone.output)
    x = keras.layers.Dense(config.dense_units, activation="relu", name="head_dense")(pooled)
    x = keras.layers.BatchNormalization(momentum=config.batch_norm_momentum, name="head_bn")(x)
    x = keras.layers.Dropout(config.dropout, name="head_dropout")(x)
    logits = keras.layers.Dense(len(CLASSES), dtype="float32", name="head_logits")(x)
    full = keras.Model(backbone.input, logits, name="full")
    if strategy.cut is None:
        return Network(strategy, config, full, full, full, precision)
    cut = cut_tensor(full, strategy.cut)
    upper, lower = keras.Model(cut, logits, name="upper"), keras.Model(backbone.input, cut, name="lower")
    return Network(strategy, config, full, upper, upper, precision, lower)


def cut_tensor(model: keras.Model, cut: str) -> keras.KerasTensor:
    """Return the symbolic output of the last layer of block `cut` (such as `"block_5"`), or of `"features"`.

    `"views"` are features too, of the views of an image.
    """
    if cut in ("features", VIEWS):
        return model.get_layer("features").output
    return [layer for layer in model.layers if layer.name.startswith(f"{cut}_")][-1].output


def _set_trainable(backbone: keras.Model, strategy: Strategy) -> None:
    if strategy.trainable_blocks is None:
        return
    first_trained = BLOCKS + 1 - strategy.trainable_blocks
    trained = tuple(f"block_{n}_" for n in range(first_trained, BLOCKS + 1))
    for layer in backbone.layers:
        top = layer.name.startswith(("Conv_1", "out_relu")) and strategy.trainable_blocks > 0
        layer.trainable = top or layer.name.startswith(trained)
