"""Rates on external images, which are in no fold, compared with the same rates in cross-validation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import ExternalFinding
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

NO_CLASS = -1
"""Label of an image of none of the seven classes."""


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Actual and predicted positions in `CLASSES`, and groups, of N images."""

    labels: Array
    predicted: Array
    groups: Array

    def hits(self, measure: str, label: str) -> tuple[Array, Array]:
        """Return (correct, among), bool (N,): images that are correct by the measure, and images that it is over."""
        if measure == "recall":
            return self.labels == self.predicted, self.labels == CLASSES.index(label)
        correct = (self.labels == POSITIVE) == (self.predicted == POSITIVE)
        return correct, (self.labels == POSITIVE) == (measure == "sensitivity")

    def rate(self, measure: str, label: str, seed: int) -> Interval:
        """Return the rate in percent with its interval over groups."""
        correct, among = self.hits(measure, label)
        return Bootstrap(self.groups, seed=seed).rate(correct, among)


def cross_validated_images(predictions: Predictions, strategy: str) -> ScoredImages:
    """Return the study's images with out-of-fold predictions."""
    return ScoredImages(predictions.label, predictions.probability[strategy].argmax(axis=1), predictions.group_id)


def ensemble_images(frame: pd.DataFrame) -> ScoredImages:
    """Return the images of `frame`, one row per image and fold's model, by mean probability over models.

    The label of an image without a class is `NO_CLASS`.
    """
    images = ensemble_probabilities(frame)
    labels = images["label"].map(lambda name: CLASSES.index(name) if isinstance(name, str) else NO_CLASS).to_numpy()
    predicted = images[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1)
    return ScoredImages(labels, predicted, images["group_id"].to_numpy())


def ensemble_probabilities(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per image of `frame`, sorted by image_id: its facts, and the mean of its models' probabilities."""
    means = frame.groupby("image_id", sort=True)[list(PROBABILITY_COLUMNS)].mean()
    facts = frame.drop_duplicates("image_id").set_index("image_id").loc[means.index]
    return facts.assign(**{name: means[name] for name in PROBABILITY_COLUMNS})


def defined_rates(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the (measure, class) that these classes define: Covid19 against the rest, then recall per class."""
    present = set(labels)
    if POSITIVE_CLASS in present:
        yield "sensitivity", POSITIVE_CLASS
    if present - {POSITIVE_CLASS}:
        yield "specificity", POSITIVE_CLASS
    yield from (("recall", label) for label in CLASSES if label in present and label != POSITIVE_CLASS)


def external_findings(
    frame: pd.DataFrame, predictions: Predictions, strategies: Sequence[str], seed: int
) -> list[ExternalFinding]:
    """Return one finding per strategy (in the order given), source and measure.

    `frame` has the columns of the evidence part `external`; each image is scored by the mean of its folds' models.
    """
    findings = []
    for strategy in strategies:
        inside = cross_validated_images(predictions, strategy)
        internal: dict[tuple[str, str], Interval] = {}
        for source, rows in frame[frame["strategy"] == strategy].groupby("source"):
            outside = ensemble_images(rows)
            for key in defined_rates(rows["label"].tolist()):
                if key not in internal:  # the same for all sources
                    internal[key] = inside.rate(*key, seed)
                findings.append(external_finding((str(source), strategy), key, outside, internal[key], seed))
    return findings


def external_finding(
    names: tuple[str, str], key: tuple[str, str], outside: ScoredImages, internal: Interval, seed: int
) -> ExternalFinding:
    """Compare the rate `key` (measure, class) of `names` (source, strategy) on `outside` with the `internal` one."""
    correct, among = outside.hits(*key)
    source, strategy = names
    external = outside.rate(*key, seed)
    return ExternalFinding(
        source=source,
        measure=key[0],
        label=key[1],
        strategy=strategy,
        images=int(among.sum()),
        wrong=int((among & ~correct).sum()),
        internal=internal,
        external=external,
        contradicts=contradicts(external, internal),
    )


def contradicts(external: Interval, internal: Interval) -> bool:
    """Return True if the external rate is lower and the intervals do not overlap; False if one is undefined."""
    return external.high is not None and internal.low is not None and external.high < internal.low


def fold_range(frame: pd.DataFrame, finding: ExternalFinding) -> tuple[float, float] | None:
    """Return the lowest and the highest rate, in percent, of the single models of a finding's strategy."""
    rows = frame[(frame["strategy"] == finding.strategy) & (frame["source"] == finding.source)]
    rates = []
    for _, model in rows.groupby("fold"):
        correct, among = ensemble_images(model).hits(finding.measure, finding.label)
        if among.any():
            rates.append(100 * float(correct[among].mean()))
    return (min(rates), max(rates)) if rates else None


def interval_values(interval: Interval) -> dict[str, float | None]:
    """Return value and bounds for results.json."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}
