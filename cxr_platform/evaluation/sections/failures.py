"""The most confident mistakes of the winner, with what it looked at."""

from typing import TYPE_CHECKING

from cxr_platform.evaluation.predictions import Predictions

if TYPE_CHECKING:
    import numpy as np

MISTAKES, MISTAKES_A_PAIR = 24, 3
RIGHT_A_CLASS = 2


def confident_mistakes(
    predictions: Predictions, strategy: str, count: int = MISTAKES, a_pair: int = MISTAKES_A_PAIR
) -> "np.ndarray":
    """Rows of `predictions` that `strategy` got wrong, most confident first: `count` at most, `a_pair` of each pair of
    actual and predicted class, and one a patient."""
    import numpy as np

    probability = predictions.probability[strategy]
    predicted = probability.argmax(axis=1)
    wrong = np.flatnonzero(predicted != predictions.label)
    order = wrong[np.argsort(-probability[wrong].max(axis=1), kind="stable")]
    pairs = [(predictions.label[row], predicted[row]) for row in order]
    return _first(order, pairs, predictions.group_id[order], a_pair)[:count]


def confident_right(predictions: Predictions, strategy: str, a_class: int = RIGHT_A_CLASS) -> "np.ndarray":
    """Rows that `strategy` got right, most confident first: `a_class` of each class, one a patient."""
    import numpy as np

    probability = predictions.probability[strategy]
    right = np.flatnonzero(probability.argmax(axis=1) == predictions.label)
    order = right[np.argsort(-probability[right].max(axis=1), kind="stable")]
    return _first(order, list(predictions.label[order]), predictions.group_id[order], a_class)


def _first(rows: "np.ndarray", kinds: list[object], groups: "np.ndarray", each: int) -> "np.ndarray":
    """The first `each` rows of every kind that are of groups not yet taken."""
    import numpy as np

    taken: dict[object, int] = {}
    seen: set[object] = set()
    kept = []
    for row, kind, group in zip(rows, kinds, groups, strict=True):
        if taken.get(kind, 0) < each and group not in seen:
            taken[kind] = taken.get(kind, 0) + 1
            seen.add(group)
            kept.append(row)
    return np.array(kept, dtype=int)
