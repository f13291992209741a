"""Paired comparison of the winner with every other strategy on the same images."""

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cxr_platform.evaluation.findings import Comparison
from cxr_platform.evaluation.predictions import Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap


def compare(predictions: Predictions, winner: str, bootstrap: Bootstrap) -> tuple[Comparison, ...]:
    """Compare `winner` with each other strategy of `predictions`, in their order, by 7-class accuracy.

    McNemar's exact test treats images as independent: where patients have several images, its p value is somewhat too
    small. The bootstrap of the difference resamples patients. Holm's correction limits the probability of at least one
    false positive among all comparisons to 5 %.
    """
    others = [name for name in predictions.probability if name != winner]
    correct = {name: correct_images(predictions, name) for name in (winner, *others)}
    p_values = [mcnemar_p(correct[winner], correct[other]) for other in others]
    return tuple(
        Comparison(winner, other, bootstrap.difference(correct[winner], correct[other]), p, adjusted)
        for other, p, adjusted in zip(others, p_values, holm(p_values), strict=True)
    )


def correct_images(predictions: Predictions, strategy: str) -> Array:
    """Return (N,) bool: True where the most probable class is the label."""
    correct: Array = predictions.probability[strategy].argmax(axis=1) == predictions.label
    return correct


def mcnemar_p(correct_a: Array, correct_b: Array) -> float:
    """Return McNemar's exact two-sided p value of two classifiers, from where each is correct: (N,) bool.

    The p value is 1 if both are correct on the same images.
    """
    table = np.array([[(a & b).sum() for b in (correct_b, ~correct_b)] for a in (correct_a, ~correct_a)])
    if table[0, 1] + table[1, 0] == 0:
        return 1.0
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Return `p_values` corrected for multiple comparisons (Holm 1979)."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []
