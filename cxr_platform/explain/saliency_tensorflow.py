"""Gradients at inner layers on the TensorFlow backend."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from cxr_platform.explain.saliency import Places, evidence_of_place


def make_places(segments: Sequence[keras.Model]) -> Places:
    """See `saliency.Places`; compiled once, the variables are read at every call."""

    def places(inputs: tf.Tensor, weights: tf.Tensor) -> list[tf.Tensor]:
        activations = []
        with tf.GradientTape() as tape:
            value = segments[0](inputs, training=False)
            for segment in segments[1:]:
                tape.watch(value)
                activations.append(value)
                value = segment(value, training=False)
            score = tf.reduce_sum(value * weights)
        gradients = tape.gradient(score, activations)
        return [evidence_of_place(*pair) for pair in zip(activations, gradients, strict=True)]

    compiled = tf.function(places, autograph=False)

    def run(inputs: np.ndarray, weights: np.ndarray) -> list[tf.Tensor]:
        return list(compiled(tf.constant(inputs), tf.constant(weights)))

    return run
