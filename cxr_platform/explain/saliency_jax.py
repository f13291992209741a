"""Gradients at inner layers on the JAX backend: `jax.vjp` through each segment's stateless call, from the top down."""

from collections.abc import Sequence
from typing import Any

import jax
import keras
import numpy as np

from cxr_platform.explain.saliency import Places, evidence_of_place

State = list[tuple[list[Any], list[Any]]]
"""Trainable and other variables of each segment."""


def make_places(segments: Sequence[keras.Model]) -> Places:
    """See `saliency.Places`; compiled once, the variables are handed over at every call."""

    def places(state: State, inputs: Any, weights: Any) -> list[Any]:
        value, below = _call(segments[0], state[0], inputs), []
        for segment, variables in zip(segments[1:], state[1:], strict=True):
            activation = value
            value, pull_back = jax.vjp(lambda a, s=segment, v=variables: _call(s, v, a), activation)
            below.append((activation, pull_back))
        gradient, found = weights, []
        for activation, pull_back in reversed(below):
            (gradient,) = pull_back(gradient)
            found.append(evidence_of_place(activation, gradient))
        return found[::-1]

    compiled = jax.jit(places)

    def run(inputs: np.ndarray, weights: np.ndarray) -> list[Any]:
        return list(compiled([_variables(segment) for segment in segments], inputs, weights))

    return run


def _variables(segment: keras.Model) -> tuple[list[Any], list[Any]]:
    return [v.value for v in segment.trainable_variables], [v.value for v in segment.non_trainable_variables]


def _call(segment: keras.Model, variables: tuple[list[Any], list[Any]], inputs: Any) -> Any:
    outputs, _ = segment.stateless_call(*variables, inputs, training=False)
    return outputs
