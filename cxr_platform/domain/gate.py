"""The gate of the strategy `robust`: Covid19 is an answer only where two heads name it, else it is indeterminate.

The first head knows all seven classes. The second was fitted to the origins that have Covid19 and other images, so that
it cannot tell Covid19 by the origin.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.labels import POSITIVE_CLASS, class_index

Array = NDArray[Any]
POSITIVE = class_index(POSITIVE_CLASS)


@dataclass(frozen=True, eq=False)
class GatedAnswers:
    """Probabilities (n, 7) with the lower one of Covid19, and where (n,) the heads disagree on it."""

    probabilities: Array
    indeterminate: Array


def gated_answers(first: Array, second: Array) -> GatedAnswers:
    """Return the answers of the first head, probabilities (n, 7), behind a gate with the probabilities of the second.

    Covid19 has the lower of its two probabilities, and the other classes what is left in their proportions. Where the
    first head names Covid19 and the lower probability would name another class, the answer is indeterminate.
    """
    lower = np.minimum(first[:, POSITIVE], second[:, POSITIVE])
    others = np.delete(first, POSITIVE, axis=1)
    left = others.sum(axis=1, keepdims=True)
    shares = np.divide(others, left, out=np.full_like(others, 1 / others.shape[1]), where=left > 0)
    probabilities = np.insert(shares * (1 - lower)[:, None], POSITIVE, lower, axis=1)
    return GatedAnswers(probabilities, disagreement(first, probabilities))


def disagreement(first: Array, gated: Array) -> Array:
    """Return where (n,) scores (n, 7) of the first head name Covid19 and those behind the gate do not."""
    return np.asarray((first.argmax(axis=1) == POSITIVE) & (gated.argmax(axis=1) != POSITIVE))
