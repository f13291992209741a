"""The paper's Tables 1 to 7 beside a study under both protocols: grouped folds and, as in the paper, shuffled images.

Figures of this study count each image once and have 95 % confidence intervals; the paper prints none.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import Value
from cxr_platform.evaluation.metrics import MEASURES, row_shares
from cxr_platform.evaluation.paper import paper_matrix, paper_metrics, paper_two_class
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.report_tables import FINE_TUNING, PERCENT_COLUMNS, TWO_CLASSES
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

PROTOCOLS = ("grouped folds", "shuffled folds")
SHELF, SCRATCH = "off-the-shelf", "scratch"
METRICS_NOTE = (
    "In percent. Grouped and shuffled folds: this study, each image counted once, with the 95 % confidence interval by "
    "bootstrap over patients; two-class figures are Covid19 against the rest. The paper, which shuffled its images, "
    "prints no intervals. Shuffled minus grouped: points, by paired bootstrap. A dash: not printed in the paper."
)
MATRIX_NOTE = (
    "Percent of the images of the actual class, with the 95 % confidence interval by bootstrap over patients for this "
    "study; the paper prints numbers of images and no intervals. A rate of 0 or 100 % has the bounds of Clopper and "
    "Pearson over the patients."
)

Answers: TypeAlias = Sequence[Array]
"""Predicted positions in `CLASSES` (N,) in grouped folds and in shuffled ones, of the same images."""


def protocol_tables(paper: Predictions, grouped: Predictions, bootstrap: Bootstrap, synthetic: bool) -> list[Table]:
    """Return those of Tables 1 to 7 whose strategies both studies have; the predictions are of the same images."""
    answers = {
        strategy: tuple(p.probability[strategy].argmax(axis=1) for p in (grouped, paper))
        for strategy in grouped.probability
        if strategy in paper.probability
    }
    tables = []
    for number, names in (("1", (SHELF,)), ("4", FINE_TUNING), ("5", (SCRATCH,))):
        both = [(name, answers[name]) for name in names if name in answers]
        if both:
            rows = [row for name, of_strategy in both for row in _metric_rows(name, of_strategy, grouped, bootstrap)]
            title = "Fine-tuning" if number == "4" else TITLES[names[0]]
            tables.append(_table(number, title, ("Strategy", "Figures"), PERCENT_COLUMNS, rows, METRICS_NOTE))
    for seven, two, strategy in (("2", "3", SHELF), ("6", "7", SCRATCH)):
        if strategy in answers:
            tables += _matrix_tables((seven, two), strategy, answers[strategy], grouped.label, bootstrap)
    return [Table(**{**vars(table), "synthetic": synthetic}) for table in sorted(tables, key=lambda t: t.name)]


def _table(
    number: str, title: str, headers: tuple[str, ...], columns: Sequence[str], rows: Sequence[Row], note: str
) -> Table:
    shown = f"Table {number}. {title}, grouped and shuffled folds"
    return Table(f"table-{number}-by-protocol", shown, headers, tuple(columns), tuple(rows), note)


def _metric_rows(strategy: str, answers: Answers, grouped: Predictions, bootstrap: Bootstrap) -> Iterator[Row]:
    title, printed = TITLES[strategy], paper_metrics(strategy)
    hits = [_hits(predicted, grouped.label) for predicted in answers]
    for name, of_protocol in zip(PROTOCOLS, hits, strict=True):
        yield Row((title, name), tuple(bootstrap.rate(*of_protocol[m]) for m in MEASURES))
    yield Row((title, "paper"), tuple(printed[m] for m in MEASURES), "paper")
    in_grouped, in_paper = hits
    gaps = tuple(bootstrap.difference(in_paper[m][0], *in_grouped[m]) for m in MEASURES)
    yield Row((title, "shuffled − grouped"), gaps, "difference")


def _hits(predicted: Array, label: Array) -> dict[str, tuple[Array, Array | None]]:
    """Return the correct images and those that count, bool (N,) each, by measure."""
    positive = label == POSITIVE
    right = (predicted == POSITIVE) == positive
    return {
        "accuracy_2_class": (right, None),
        "accuracy_7_class": (predicted == label, None),
        "sensitivity": (right, positive),
        "specificity": (right, ~positive),
    }


def _matrix_tables(
    numbers: tuple[str, str], strategy: str, answers: Answers, label: Array, bootstrap: Bootstrap
) -> Iterator[Table]:
    name = "off-the-shelf features" if strategy == SHELF else "training from scratch"
    headers = ("Actual ↓ predicted →", "Figures")
    printed, two_class = paper_matrix(strategy), paper_two_class(strategy)
    rows = _matrix_rows(CLASSES, answers, label, printed, bootstrap)
    yield _table(numbers[0], f"Seven classes, {name}", headers, CLASSES, list(rows), MATRIX_NOTE)
    of_two = [(predicted != POSITIVE).astype(int) for predicted in answers]
    in_print = None if two_class is None else two_class.matrix
    rows = _matrix_rows(TWO_CLASSES, of_two, (label != POSITIVE).astype(int), in_print, bootstrap)
    yield _table(numbers[1], f"Covid19 or not, {name}", headers, TWO_CLASSES, list(rows), MATRIX_NOTE)


def _matrix_rows(
    names: Sequence[str], answers: Answers, label: Array, printed: Array | None, bootstrap: Bootstrap
) -> Iterator[Row]:
    places = range(len(names))
    for actual, name in enumerate(names):
        among = label == actual
        for protocol, predicted in zip(PROTOCOLS, answers, strict=True):
            shares: tuple[Value, ...] = tuple(bootstrap.rate(predicted == place, among) for place in places)
            yield Row((name, protocol), shares)
        of_paper: tuple[Value, ...] = (None,) * len(names) if printed is None else tuple(row_shares(printed)[actual])
        yield Row((name, "paper"), of_paper, "paper")
