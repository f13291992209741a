"""What it does to the figures when films of one patient may stand in several folds: the paper's protocol less the
grouped one, on the same films."""

from collections.abc import Mapping
from dataclasses import dataclass

from cxr_platform.evaluation.interval import Interval
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.resampling import Bootstrap
from cxr_platform.labels import CLASSES, POSITIVE_CLASS


@dataclass(frozen=True)
class Leakage:
    """Of one strategy, for each measure: both rates in percent and their difference in points."""

    strategy: str
    paper: Mapping[str, Interval]
    grouped: Mapping[str, Interval]
    difference: Mapping[str, Interval]


def leakage(paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> tuple[Leakage, ...]:
    """One a strategy that both have. Both are about the same films, which `load_predictions` puts in one order.

    `bootstrap` is over the groups of either: a film's group is the manifest's, whatever the protocol.
    """
    return tuple(_of(s, paper, grouped, bootstrap) for s in grouped.probability if s in paper.probability)


def torn_films(predictions: Predictions) -> int:
    """Films whose group has a film in another fold: the network that was tested on them had learnt from that one."""
    import pandas as pd

    folds = pd.Series(predictions.fold).groupby(predictions.group_id).transform("nunique")
    return int((folds > 1).sum())


def _of(strategy: str, paper: Predictions, grouped: Predictions, bootstrap: Bootstrap) -> Leakage:
    covid, label = CLASSES.index(POSITIVE_CLASS), grouped.label
    mixed, apart = (p.probability[strategy].argmax(axis=1) for p in (paper, grouped))
    hits = {
        "accuracy_7_class": (mixed == label, apart == label, None),
        "sensitivity": (mixed == covid, apart == covid, label == covid),
        "specificity": (mixed != covid, apart != covid, label != covid),
    }
    return Leakage(
        strategy,
        paper={m: bootstrap.rate(ours, among) for m, (ours, _, among) in hits.items()},
        grouped={m: bootstrap.rate(theirs, among) for m, (_, theirs, among) in hits.items()},
        difference={m: bootstrap.difference(ours, theirs, among) for m, (ours, theirs, among) in hits.items()},
    )
