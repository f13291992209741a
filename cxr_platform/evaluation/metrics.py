"""The study's measures (§2.5), from predictions or from a confusion matrix. All other figures come from here.

Every rate is a percentage from 0 to 100, as the paper prints it, and `None` where it is undefined
(sensitivity of a fold without a Covid19 image, say): an undefined rate is never 0 and never enters a mean.
Confusion matrices have the actual class in rows and the predicted class in columns, in the order of `CLASSES`.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

    from cxr_platform.evaluation.predictions import Predictions

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
        """Percent of all images on the right side."""
        return percentage(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def sensitivity(self) -> float | None:
        """Percent of the actual Covid19 images found (eq. 1)."""
        return percentage(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """Percent of the other images left alone (eq. 2)."""
        return percentage(self.tn, self.tn + self.fp)

    @property
    def matrix(self) -> "np.ndarray":
        """(2, 2) images: Covid19 first, rows actual, columns predicted."""
        import numpy as np

        return np.array([[self.tp, self.fn], [self.fp, self.tn]])


@dataclass(frozen=True)
class Metrics:
    """The four measures of §2.5 in percent; `None` where undefined or, for the paper's own, not printed."""

    accuracy_2_class: float | None
    accuracy_7_class: float | None
    sensitivity: float | None
    specificity: float | None

    def __getitem__(self, measure: str) -> float | None:
        return getattr(self, measure)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n − 1), in percent, over the `defined` ones of `folds` folds.

    `ratio` marks figures from 0 to 1, as in `Interval`.
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
    matrix: "np.ndarray"
    metrics: Metrics


@dataclass(frozen=True, eq=False)
class StrategyResult:
    """One strategy over all folds: `matrix` and `pooled` count every image once, `spread` is over folds."""

    strategy: str
    folds: tuple[FoldResult, ...]
    matrix: "np.ndarray"
    pooled: Metrics
    spread: Mapping[str, Spread]

    @property
    def mean(self) -> Metrics:
        """Means over folds, the paper's way of stating accuracy (§2.4)."""
        return Metrics(**{measure: self.spread[measure].mean for measure in MEASURES})


Results = Mapping[str, StrategyResult]


def confusion_matrix(actual: "np.ndarray", predicted: "np.ndarray") -> "np.ndarray":
    """(7, 7) images from two arrays (N,) of positions in `CLASSES`."""
    from sklearn.metrics import confusion_matrix as count

    return count(actual, predicted, labels=range(len(CLASSES)))


def two_class(matrix: "np.ndarray") -> TwoClass:
    """Covid19 against the rest out of a (7, 7) matrix: Covid19 counts as predicted where it is the likeliest class."""
    positive = CLASSES.index(POSITIVE_CLASS)
    tp = int(matrix[positive, positive])
    fn = int(matrix[positive].sum()) - tp
    fp = int(matrix[:, positive].sum()) - tp
    return TwoClass(tp=tp, fp=fp, fn=fn, tn=int(matrix.sum()) - tp - fn - fp)


def compute_metrics(matrix: "np.ndarray") -> Metrics:
    """The four measures of §2.5 out of a (7, 7) confusion matrix."""
    binary = two_class(matrix)
    return Metrics(
        accuracy_2_class=binary.accuracy,
        accuracy_7_class=percentage(int(matrix.trace()), int(matrix.sum())),
        sensitivity=binary.sensitivity,
        specificity=binary.specificity,
    )


def evaluate(predictions: "Predictions", strategy: str) -> StrategyResult:
    """All figures of one strategy. The predicted class is the likeliest; of equals, the first in `CLASSES`."""
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
    """Mean and standard deviation of the defined values; `None` where too few are defined (1 and 2 are needed)."""
    values = list(values)
    defined = [value for value in values if value is not None]
    mean = statistics.fmean(defined) if defined else None
    sd = statistics.stdev(defined) if len(defined) > 1 else None
    return Spread(mean, sd, len(defined), len(values))


def percentage(part: int, whole: int) -> float | None:
    """100 · part / whole, or `None` when there is no whole."""
    return 100 * part / whole if whole else None


def difference(value: float | None, reference: float | None) -> float | None:
    """`value` − `reference` in percentage points, or `None` when either is undefined."""
    return None if value is None or reference is None else value - reference


def row_shares(matrix: "np.ndarray") -> list[list[float | None]]:
    """Each cell as percent of its actual class; a class without images gives `None`s."""
    return [[percentage(int(cell), int(row.sum())) for cell in row] for row in matrix]


def majority_accuracy(matrix: "np.ndarray") -> float | None:
    """7-class accuracy, in percent, of always answering the most frequent actual class."""
    return percentage(int(matrix.sum(axis=1).max()), int(matrix.sum()))


def source_counts(predictions: "Predictions") -> dict[str, dict[str, int]]:
    """Images by class, then source; sources sorted, those without an image of the class left out."""
    pairs = Counter(zip(predictions.label.tolist(), predictions.source, strict=True))
    return {
        label: {source: n for (position, source), n in sorted(pairs.items()) if position == i}
        for i, label in enumerate(CLASSES)
    }


def folds_ahead(first: StrategyResult, second: StrategyResult) -> int:
    """In how many folds `first` has the higher 7-class accuracy; both were tested on the same folds."""
    pairs = zip(first.folds, second.folds, strict=True)
    gaps = (difference(a.metrics.accuracy_7_class, b.metrics.accuracy_7_class) for a, b in pairs)
    return sum(gap is not None and gap > 0 for gap in gaps)
