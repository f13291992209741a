"""What it does to the figures when images of one patient may stand in several folds: the paper's protocol less the
grouped one, on the same images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

    Hits = tuple[np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Leakage:
    """Of one strategy, for each measure: both rates in percent and their difference in points."""

    strategy: str
    paper: Mapping[str, Interval]
    grouped: Mapping[str, Interval]
    difference: Mapping[str, Interval]


def leakage(paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> tuple[Leakage, ...]:
    """One a strategy that both have. Both are about the same images, which `load_predictions` puts in one order.

    `bootstrap` is over the groups of either: an image's group is the manifest's, whatever the protocol.
    """
    return tuple(_of(s, paper, grouped, bootstrap) for s in grouped.probability if s in paper.probability)


def mean_difference(paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> dict[str, Interval]:
    """As `Leakage.difference`, in points, of the mean over the strategies that both have.

    A winner of grouped folds was chosen for its figure there, which makes its own difference too small; a mean over
    strategies is not chosen, and less of it is the luck of one training.
    """
    import numpy as np

    shared = [s for s in grouped.probability if s in paper.probability]
    hits = [_hits(strategy, paper, grouped) for strategy in shared]
    return {
        measure: bootstrap.difference(
            np.mean([h[measure][0] for h in hits], axis=0), np.mean([h[measure][1] for h in hits], axis=0), among
        )
        for measure, (_, _, among) in (hits[0].items() if hits else ())
    }


def split_group_images(predictions: Predictions) -> int:
    """Images whose group has an image in another fold: the network that was tested on them had learnt from that one."""
    import pandas as pd

    folds = pd.Series(predictions.fold).groupby(predictions.group_id).transform("nunique")
    return int((folds > 1).sum())


def _of(strategy: str, paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> Leakage:
    hits = _hits(strategy, paper, grouped)
    return Leakage(
        strategy,
        paper={m: bootstrap.rate(ours, among) for m, (ours, _, among) in hits.items()},
        grouped={m: bootstrap.rate(theirs, among) for m, (_, theirs, among) in hits.items()},
        difference={m: bootstrap.difference(ours, theirs, among) for m, (ours, theirs, among) in hits.items()},
    )


def _hits(strategy: str, paper: Predictions, grouped: Predictions) -> "dict[str, Hits]":
    """For each measure: images that are right under either protocol, (N,) bool each, and those that it is about."""
    covid, label = CLASSES.index(POSITIVE_CLASS), grouped.label
    mixed, apart = (p.probability[strategy].argmax(axis=1) for p in (paper, grouped))
    return {
        "accuracy_7_class": (mixed == label, apart == label, None),
        "sensitivity": (mixed == covid, apart == covid, label == covid),
        "specificity": (mixed != covid, apart != covid, label != covid),
    }
