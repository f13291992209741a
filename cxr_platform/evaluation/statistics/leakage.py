"""Effect of images of one patient in several folds: the paper's protocol minus grouped folds, on the same images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap

Hits: TypeAlias = tuple[Array, Array, Array | None]
"""(N,) bool each: images correct under the paper's protocol, images correct under grouped folds, images counted."""


@dataclass(frozen=True)
class Leakage:
    """One strategy: measure → rates in percent under both protocols, and their difference in points."""

    strategy: str
    paper: Mapping[str, Interval]
    grouped: Mapping[str, Interval]
    difference: Mapping[str, Interval]


def leakage(paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> tuple[Leakage, ...]:
    """Return one result per strategy of both studies, which must be over the same images in the same order.

    `bootstrap` is over the groups of either: groups come from the manifest and do not depend on the protocol.
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
                difference={m: bootstrap.difference(*both) for m, both in hits.items()},
            )
        )
    return tuple(results)


def mean_difference(paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the mean of `Leakage.difference` over the strategies of both studies, in points.

    The winner of grouped folds was chosen for its result there, which biases its own difference downwards. The mean
    over strategies has no such selection and depends less on a single training run.
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
    label = grouped.label
    in_paper, in_grouped = (p.probability[strategy].argmax(axis=1) for p in (paper, grouped))
    return {
        "accuracy_7_class": (in_paper == label, in_grouped == label, None),
        "sensitivity": (in_paper == POSITIVE, in_grouped == POSITIVE, label == POSITIVE),
        "specificity": (in_paper != POSITIVE, in_grouped != POSITIVE, label != POSITIVE),
    }
