"""Effect of images of one patient in several folds.

The effect is the result under the paper's protocol, which shuffles images into folds one by one, minus that under
grouped folds, on the same images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap

Hits: TypeAlias = tuple[Array, Array, Array | None]
"""(N,) bool each: hits under the paper's protocol, hits under grouped folds, and the images counted (`None`: all).

A hit counts towards a measure; for sensitivity it is an image called Covid19.
"""


@dataclass(frozen=True)
class Leakage:
    """One strategy, by measure: its rates in percent under both protocols, and `paper` minus `grouped` in points."""

    strategy: str
    paper: Mapping[str, Interval]
    grouped: Mapping[str, Interval]
    difference: Mapping[str, Interval]


def leakage(paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> tuple[Leakage, ...]:
    """Return one result per strategy of both studies, which must be over the same images in the same order.

    `bootstrap` may be that of either study: groups come from the manifest and do not depend on the protocol.
    """
    results = []
    for strategy in grouped.probability:
        if strategy not in paper.probability:
            continue
        hits = _hits(strategy, paper, grouped)
        results.append(
            Leakage(
                strategy,
                paper={m: bootstrap.rate(in_paper, among) for m, (in_paper, _, among) in hits.items()},
                grouped={m: bootstrap.rate(in_grouped, among) for m, (_, in_grouped, among) in hits.items()},
                difference={m: bootstrap.difference(*of_measure) for m, of_measure in hits.items()},
            )
        )
    return tuple(results)


def mean_difference(paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the mean of `Leakage.difference` over the strategies of both studies, in points.

    The winner under grouped folds was chosen because its result there is high, so its own difference is biased
    downwards. The mean over all strategies is free of this bias and depends less on single training runs.
    """
    shared = [s for s in grouped.probability if s in paper.probability]
    hits = [_hits(strategy, paper, grouped) for strategy in shared]
    return {
        measure: bootstrap.difference(
            np.mean([h[measure][0] for h in hits], axis=0), np.mean([h[measure][1] for h in hits], axis=0), among
        )
        for measure, (_, _, among) in (hits[0].items() if hits else ())
    }


def split_group_images(predictions: Predictions) -> int:
    """Return the number of images tested by a network that was trained on another image of their group."""
    folds = pd.Series(predictions.fold).groupby(predictions.group_id).transform("nunique")
    return int((folds > 1).sum())


def _hits(strategy: str, paper: Predictions, grouped: Predictions) -> dict[str, Hits]:
    """Return the hits of `strategy` by measure."""
    label = grouped.label
    by_paper, by_grouped = (p.probability[strategy].argmax(axis=1) for p in (paper, grouped))  # predicted classes
    return {
        "accuracy_7_class": (by_paper == label, by_grouped == label, None),
        "sensitivity": (by_paper == POSITIVE, by_grouped == POSITIVE, label == POSITIVE),
        "specificity": (by_paper != POSITIVE, by_grouped != POSITIVE, label != POSITIVE),
    }
