"""The measures of §2.5, from predictions or from a confusion matrix.

Every rate is a percentage from 0 to 100, as in the paper, and `None` if it is undefined (for example sensitivity in a
fold without Covid19 images). Undefined rates do not enter means. Confusion matrices have the actual class in rows and
the predicted class in columns, in the order of `CLASSES`.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.labels import CLASSES

MEASURES: Mapping[str, str] = {
    "accuracy_2_class": "Accuracy 2-class",
    "accuracy_7_class": "Accuracy 7-class",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
"""Field of `Metrics` → the heading in the paper's Tables 1, 4 and 5, in their order."""


@dataclass(frozen=True)
class TwoClass:
    """Covid19 against the rest, in images (Tables 3 and 7)."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def accuracy(self) -> float | None:
        """Percentage of all images that are correct."""
        return percentage(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def sensitivity(self) -> float | None:
        """Percentage of the Covid19 images that are called Covid19 (eq. 1)."""
        return percentage(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """Percentage of the other images that are not called Covid19 (eq. 2)."""
        return percentage(self.tn, self.tn + self.fp)

    @property
    def matrix(self) -> Array:
        """(2, 2) images: Covid19 first, rows actual, columns predicted."""
        return np.array([[self.tp, self.fn], [self.fp, self.tn]])


@dataclass(frozen=True)
class Metrics:
    """The four measures of §2.5 in percent; `None` if undefined or, for the paper's own, not printed."""

    accuracy_2_class: float | None
    accuracy_7_class: float | None
    sensitivity: float | None
    specificity: float | None

    def __getitem__(self, measure: str) -> float | None:
        value: float | None = getattr(self, measure)
        return value


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n − 1), in percent, over the `defined` ones of `folds` folds.

    `ratio` marks values from 0 to 1, as in `Interval`.
    """

    mean: float | None
    sd: float | None
    defined: int
    folds: int
    ratio: bool = False


@dataclass(frozen=True, eq=False)
class FoldResult:
    """One held-out fold of one strategy."""

    fold: int
    matrix: Array
    metrics: Metrics


@dataclass(frozen=True, eq=False)
class StrategyResult:
    """One strategy over all folds: `matrix` and `pooled` count every image once, `spread` is over folds."""

    strategy: str
    folds: tuple[FoldResult, ...]
    matrix: Array
    pooled: Metrics
    spread: Mapping[str, Spread]

    @property
    def mean(self) -> Metrics:
        """Means over folds, as the paper reports accuracy (§2.4)."""
        return Metrics(**{measure: self.spread[measure].mean for measure in MEASURES})


Results: TypeAlias = Mapping[str, StrategyResult]


def confusion_matrix(actual: Array, predicted: Array) -> Array:
    """Return (7, 7) images from two arrays (N,) of positions in `CLASSES`."""
    matrix: Array = sklearn_confusion_matrix(actual, predicted, labels=range(len(CLASSES)))
    return matrix


def two_class(matrix: Array) -> TwoClass:
    """Return Covid19 against the rest from a (7, 7) matrix: called Covid19 if that is the most probable class."""
    tp = int(matrix[POSITIVE, POSITIVE])
    fn = int(matrix[POSITIVE].sum()) - tp
    fp = int(matrix[:, POSITIVE].sum()) - tp
    return TwoClass(tp=tp, fp=fp, fn=fn, tn=int(matrix.sum()) - tp - fn - fp)


def compute_metrics(matrix: Array) -> Metrics:
    """Return the four measures of §2.5 from a (7, 7) confusion matrix."""
    binary = two_class(matrix)
    return Metrics(
        accuracy_2_class=binary.accuracy,
        accuracy_7_class=percentage(int(matrix.trace()), int(matrix.sum())),
        sensitivity=binary.sensitivity,
        specificity=binary.specificity,
    )


def evaluate(predictions: Predictions, strategy: str) -> StrategyResult:
    """Return all metrics of one strategy. The most probable class is predicted, of ties the first in `CLASSES`."""
    predicted = predictions.probability[strategy].argmax(axis=1)
    folds = []
    for fold in range(predictions.folds):
        held_out = predictions.fold == fold
        matrix = confusion_matrix(predictions.label[held_out], predicted[held_out])
        folds.append(FoldResult(fold, matrix, compute_metrics(matrix)))
    pooled = confusion_matrix(predictions.label, predicted)
    spreads = {measure: spread(f.metrics[measure] for f in folds) for measure in MEASURES}
    return StrategyResult(strategy, tuple(folds), pooled, compute_metrics(pooled), spreads)


def spread(values: Iterable[float | None]) -> Spread:
    """Return mean and standard deviation of the defined values; `None` without 1 (mean) or 2 (deviation) of them."""
    values = list(values)
    defined = [value for value in values if value is not None]
    mean = statistics.fmean(defined) if defined else None
    sd = statistics.stdev(defined) if len(defined) > 1 else None
    return Spread(mean, sd, len(defined), len(values))


def percentage(part: int, whole: int) -> float | None:
    """Return 100 · part / whole, or `None` if `whole` is 0."""
    return 100 * part / whole if whole else None


def difference(value: float | None, reference: float | None) -> float | None:
    """Return `value` − `reference` in percentage points, or `None` if either is undefined."""
    return None if value is None or reference is None else value - reference


def row_shares(matrix: Array) -> list[list[float | None]]:
    """Return each cell as a percentage of its actual class; `None` for a class without images."""
    return [[percentage(int(cell), int(row.sum())) for cell in row] for row in matrix]


def majority_accuracy(matrix: Array) -> float | None:
    """Return the 7-class accuracy, in percent, of always predicting the most frequent actual class."""
    return percentage(int(matrix.sum(axis=1).max()), int(matrix.sum()))


def source_counts(predictions: Predictions) -> dict[str, dict[str, int]]:
    """Return class → source → images, sources by name, without sources that have no image of the class."""
    pairs = Counter(zip(predictions.label.tolist(), predictions.source, strict=True))
    return {
        label: {source: n for (position, source), n in sorted(pairs.items()) if position == i}
        for i, label in enumerate(CLASSES)
    }


def folds_ahead(first: StrategyResult, second: StrategyResult) -> int:
    """Return the number of folds in which `first` has the higher 7-class accuracy."""
    pairs = zip(first.folds, second.folds, strict=True)
    gaps = (difference(a.metrics.accuracy_7_class, b.metrics.accuracy_7_class) for a, b in pairs)
    return sum(gap is not None and gap > 0 for gap in gaps)
