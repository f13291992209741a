"""Leakage: what the paper's protocol, which may put images of one patient into several folds, does to the figures.

The effect is the result under the paper's protocol, which shuffles images into folds one by one, minus that under
grouped folds, on the same images.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.findings import LeakageFinding
from cxr_platform.evaluation.formatting import count, joined, rate, text
from cxr_platform.evaluation.metrics import MEASURES
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs, settings_that_differ
from cxr_platform.evaluation.sections.protocol_tables import protocol_tables
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_bootstrap
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "leakage", "Leakage: images of one patient in several folds"
ACCURACY = "accuracy_7_class"
SHOWN = (ACCURACY, "sensitivity", "specificity")

ABSENT = "Only the protocol “{}” was run on these images. make cv-all PROTOCOL=both runs both and shows the difference."
LIMITS = (
    "Each protocol trained networks of its own, once. The interval covers the choice of patients, not that training "
    "again gives another network, so that a small difference may be due to that alone."
)
NOTE = (
    "In percent, each image counted once; differences in points, paper minus grouped, with the 95 % confidence "
    "interval by paired bootstrap over patients."
)
BOTH_SIDES = "images of one patient in both the training and the test set are the likely reason"


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


@dataclass(frozen=True)
class LeakageResults:
    """Both protocols for each common strategy, best strategy first, and the mean difference over all by measure.

    `shared` of the `images` have, under the paper's protocol, an image of their group in another fold.
    """

    strategies: tuple[Leakage, ...]
    mean: Mapping[str, Interval]
    shared: int
    images: int
    winner: str

    @property
    def finding(self) -> LeakageFinding | None:
        """The winner's difference; `None` if the other study did not run the winner."""
        for strategy in self.strategies:
            if strategy.strategy == self.winner:
                return LeakageFinding(self.winner, strategy.difference[ACCURACY], self.mean_accuracy)
        return None

    @property
    def mean_accuracy(self) -> Interval | None:
        """The mean difference of accuracy; `None` with a single strategy."""
        return self.mean[ACCURACY] if len(self.strategies) > 1 else None


def compute(inputs: ReportInputs) -> LeakageResults | None:
    """Return paper minus grouped for every strategy of both studies; `None` if only one protocol was run."""
    if inputs.other is None:
        return None
    both = {inputs.study.protocol: inputs.predictions, inputs.other[0].protocol: inputs.other[1]}
    paper, grouped = both["paper"], both["grouped"]
    bootstrap = study_bootstrap(inputs.study, grouped)
    by_strategy = {compared.strategy: compared for compared in leakage(paper, grouped, bootstrap)}
    return LeakageResults(
        tuple(by_strategy[r.strategy] for r in inputs.results.ranking if r.strategy in by_strategy),
        mean_difference(paper, grouped, bootstrap),
        split_group_images(paper),
        len(inputs.predictions.image_id),
        inputs.results.decision.winner,
    )


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


def render(inputs: ReportInputs, results: LeakageResults | None) -> Section:
    """Show the difference for every strategy, and what it means for the winner."""
    if results is None or inputs.other is None:
        return Section(NAME, TITLE, absent=ABSENT.format(inputs.study.protocol))
    if not results.strategies:
        return Section(NAME, TITLE, absent="The two studies have no strategy in common.")
    both = {inputs.study.protocol: inputs.predictions, inputs.other[0].protocol: inputs.other[1]}
    bootstrap = study_bootstrap(inputs.study, both["grouped"])
    sentences = (_shared_sentence(results), _difference_sentence(results), *_mean_sentence(results), LIMITS)
    return Section(
        NAME,
        TITLE,
        lead=sentences,
        tables=(_table(results, inputs.synthetic),),
        folded=tuple(protocol_tables(both["paper"], both["grouped"], bootstrap, inputs.synthetic)),
        warnings=_other_differences(inputs.study, inputs.other[0]),
        values={
            "images_of_shared_groups": results.shared,
            "mean_difference": {measure: asdict(interval) for measure, interval in results.mean.items()},
            "strategies": {strategy.strategy: asdict(strategy) for strategy in results.strategies},
        },
    )


def _shared_sentence(results: LeakageResults) -> str:
    return (
        f"The paper's protocol shuffles images into folds one by one: {count(results.shared, 'image', 'images')} of "
        f"{results.images:,} were tested by a network that was trained on another image of the same patient, a "
        "duplicate or near-duplicate. The grouped protocol keeps these in one fold."
    )


def _difference_sentence(results: LeakageResults) -> str:
    best = results.strategies[0]
    paper, grouped, gap = best.paper[ACCURACY], best.grouped[ACCURACY], best.difference[ACCURACY]
    start = (
        f"{TITLES[best.strategy]} has {rate(paper)} 7-class accuracy under the paper's protocol and {rate(grouped)} "
        f"under the grouped one: a difference of {text(gap)} points."
    )
    if not gap.excludes_zero or gap.value is None:
        return f"{start} The difference is not significant: by itself it neither shows leakage nor rules it out."
    if gap.value < 0:
        return f"{start} The paper's protocol gives the lower figure, which leakage cannot explain."
    if not results.shared:
        return f"{start} No image has another image of its patient in another fold, so that leakage cannot explain it."
    return f"{start} {BOTH_SIDES.capitalize()}: the higher figure is too high."


def _mean_sentence(results: LeakageResults) -> list[str]:
    gap = results.mean_accuracy
    if gap is None or gap.value is None:
        return []
    start = f"On average over the {len(results.strategies)} strategies the difference is {text(gap)} points"
    if not gap.excludes_zero:
        return [f"{start}, which is not significant."]
    if gap.value > 0 and results.shared:
        return [
            f"{start}; {BOTH_SIDES}. The winner was chosen for its figure in these folds, which hides part of this in "
            "its own difference."
        ]
    return [f"{start}, which leakage cannot explain."]


def _table(results: LeakageResults, synthetic: bool) -> Table:
    rows = []
    for strategy in results.strategies:
        kinds = (
            ("paper", strategy.paper, ""),
            ("grouped", strategy.grouped, ""),
            ("difference (points)", strategy.difference, "difference"),
        )
        for name, values, kind in kinds:
            rows.append(Row((TITLES[strategy.strategy], name), tuple(values[m] for m in SHOWN), kind))
    if results.mean_accuracy is not None:
        mean = tuple(results.mean[measure] for measure in SHOWN)
        rows.append(Row(("Mean over strategies", "difference (points)"), mean, "total"))
    columns = tuple(f"{MEASURES[measure]} (%)" for measure in SHOWN)
    title = "The paper's protocol and grouped folds on the same images"
    return Table("leakage", title, ("Strategy", "Protocol"), columns, tuple(rows), NOTE, synthetic)


def _other_differences(ours: StudyRecord, other: StudyRecord) -> tuple[str, ...]:
    """Return a warning if the two studies differ in more than their protocol."""
    keys = settings_that_differ(ours, other)
    if ours.folds != other.folds and "folds" not in keys:
        keys.append("folds")
    if not keys:
        return ()
    return (f"The two studies differ in more than the protocol ({joined(keys)}), which the difference includes.",)
