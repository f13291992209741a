"""Rates on images that no fold has seen, beside the same rates in cross-validation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import ExternalFinding
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

POSITIVE = CLASSES.index(POSITIVE_CLASS)


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Images with actual and predicted positions in `CLASSES`, and their groups: three arrays (N,)."""

    labels: "np.ndarray"
    predicted: "np.ndarray"
    groups: "np.ndarray"

    def hits(self, measure: str, label: str) -> "tuple[np.ndarray, np.ndarray]":
        """(right, among), bool (N,): which images are right as the measure has it, and which it is over."""
        if measure == "recall":
            return self.labels == self.predicted, self.labels == CLASSES.index(label)
        right = (self.labels == POSITIVE) == (self.predicted == POSITIVE)
        return right, (self.labels == POSITIVE) == (measure == "sensitivity")

    def rate(self, measure: str, label: str, seed: int) -> Interval:
        """The rate in percent with its interval by groups."""
        right, among = self.hits(measure, label)
        return Bootstrap(self.groups, seed=seed).rate(right, among)


def cross_validated_images(predictions: Predictions, strategy: str) -> ScoredImages:
    """The study's images by the model that has not seen them."""
    return ScoredImages(predictions.label, predictions.probability[strategy].argmax(axis=1), predictions.group_id)


def ensemble_images(frame: "pd.DataFrame") -> ScoredImages:
    """Rows of one image and one fold's model each → images by the mean of the probabilities over the models."""
    images = frame.groupby("image_id", sort=True)
    means = images[list(PROBABILITY_COLUMNS)].mean().to_numpy()
    facts = images[["label", "group_id"]].first()
    labels = facts["label"].map(CLASSES.index).to_numpy()
    return ScoredImages(labels, means.argmax(axis=1), facts["group_id"].to_numpy())


def defined_rates(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(measure, class) that images of these classes allow: Covid19 against the rest, then each class for itself."""
    present = set(labels)
    if POSITIVE_CLASS in present:
        yield "sensitivity", POSITIVE_CLASS
    if present - {POSITIVE_CLASS}:
        yield "specificity", POSITIVE_CLASS
    yield from (("recall", label) for label in CLASSES if label in present and label != POSITIVE_CLASS)


def external_findings(
    frame: "pd.DataFrame", predictions: Predictions, strategies: Sequence[str], seed: int
) -> list[ExternalFinding]:
    """One finding a strategy (in the order given), source and measure: the mean of the folds' models on the images of
    `frame` (columns of the evidence part `external`) beside cross-validation."""
    findings = []
    for strategy in strategies:
        inside = cross_validated_images(predictions, strategy)
        internal: dict[tuple[str, str], Interval] = {}
        for source, rows in frame[frame["strategy"] == strategy].groupby("source"):
            outside = ensemble_images(rows)
            for key in defined_rates(rows["label"]):  # type: ignore[arg-type]
                if key not in internal:  # one a strategy, whatever the number of sources
                    internal[key] = inside.rate(*key, seed)
                findings.append(external_finding((str(source), strategy), key, outside, internal[key], seed))
    return findings


def external_finding(
    names: tuple[str, str], key: tuple[str, str], outside: ScoredImages, internal: Interval, seed: int
) -> ExternalFinding:
    """The rate `key` (measure, class) of `names` (source, strategy) beside the internal one."""
    right, among = outside.hits(*key)
    source, strategy = names
    external = outside.rate(*key, seed)
    return ExternalFinding(
        source=source,
        measure=key[0],
        label=key[1],
        strategy=strategy,
        images=int(among.sum()),
        wrong=int((among & ~right).sum()),
        internal=internal,
        external=external,
        contradicts=contradicts(external, internal),
    )


def contradicts(external: Interval, internal: Interval) -> bool:
    """Whether the external rate is the lower one and the two intervals do not overlap; false where one is undefined."""
    return external.high is not None and internal.low is not None and external.high < internal.low


def fold_range(frame: "pd.DataFrame", found: ExternalFinding) -> tuple[float, float] | None:
    """The lowest and the highest rate, in percent, of the single models of a finding's strategy."""
    rows = frame[(frame["strategy"] == found.strategy) & (frame["source"] == found.source)]
    rates = []
    for _, model in rows.groupby("fold"):
        right, among = ensemble_images(model).hits(found.measure, found.label)
        if among.any():
            rates.append(100 * float(right[among].mean()))
    return (min(rates), max(rates)) if rates else None


def interval_values(interval: Interval) -> dict[str, float | None]:
    """The interval as plain values for results.json."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}
