"""The winner against every other strategy on the same images."""

from typing import TYPE_CHECKING

from cxr_platform.evaluation.findings import Comparison
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap

if TYPE_CHECKING:
    import numpy as np


def compare(predictions: Predictions, winner: str, bootstrap: Bootstrap) -> tuple[Comparison, ...]:
    """`winner` against each other strategy of `predictions`, in their order; empty where there is no other.

    McNemar's exact test takes images one by one and ignores that images of one patient are alike, so that its p value is
    somewhat too small where patients have several; the bootstrap of the difference resamples patients and does not.
    Holm's correction holds the chance of one false alarm over all these comparisons at 5 %.
    """
    others = [name for name in predictions.probability if name != winner]
    right = {name: right_images(predictions, name) for name in (winner, *others)}
    p_values = [mcnemar_p(right[winner], right[other]) for other in others]
    return tuple(
        Comparison(winner, other, bootstrap.difference(right[winner], right[other]), p, adjusted)
        for other, p, adjusted in zip(others, p_values, holm(p_values), strict=True)
    )


def right_images(predictions: Predictions, strategy: str) -> "np.ndarray":
    """(N,) bool: images whose likeliest class is their own."""
    return predictions.probability[strategy].argmax(axis=1) == predictions.label


def mcnemar_p(right_a: "np.ndarray", right_b: "np.ndarray") -> float:
    """McNemar's exact two-sided p value for two classifiers on the same images (N,); 1 where they never differ."""
    import numpy as np
    from statsmodels.stats.contingency_tables import mcnemar

    table = np.array([[(a & b).sum() for b in (right_b, ~right_b)] for a in (right_a, ~right_a)])
    if table[0, 1] + table[1, 0] == 0:
        return 1.0
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values: list[float]) -> list[float]:
    """`p_values` corrected for their number (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []
