"""The paper's Tables 1 to 7 for this study, each figure beside the paper's own and their difference."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.metrics import MEASURES, Results, StrategyResult, difference, row_shares, two_class
from cxr_platform.evaluation.paper import paper_figures, paper_matrix, paper_two_class
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import numpy as np

FINE_TUNING = tuple(name for name in TITLES if name.startswith("fine-tuning"))
PERCENT_COLUMNS = tuple(f"{heading} (%)" for heading in MEASURES.values())
TWO_CLASSES = ("Covid19", "non-Covid19")
FIGURES_NOTE = (
    "Mean ± standard deviation (n − 1) over folds, no confidence interval; pooled: all folds counted together. "
    "Two-class figures are Covid19 against the rest. A dash: not printed in the paper, or undefined."
)
MATRIX_NOTE = (
    "Rows are the actual class, columns the predicted one; the paper prints rows and columns exchanged. "
    "The difference is between percentages of the actual class, because the numbers of images need not be equal."
)


def paper_form_tables(results: Results) -> list[Table]:
    """Tables 1 to 7. A strategy that was not run keeps its place, with the paper's figures only."""
    shelf, scratch = "off-the-shelf", "scratch"
    return [
        _figures_table("table-1", f"Table 1. {TITLES[shelf]}", [shelf], results),
        _seven_class_table("table-2", "Table 2. Seven classes, off-the-shelf features", shelf, results),
        _two_class_table("table-3", "Table 3. Covid19 or not, off-the-shelf features", shelf, results),
        _figures_table("table-4", "Table 4. Fine-tuning", FINE_TUNING, results),
        _figures_table("table-5", f"Table 5. {TITLES[scratch]}", [scratch], results),
        _seven_class_table("table-6", "Table 6. Seven classes, training from scratch", scratch, results),
        _two_class_table("table-7", "Table 7. Covid19 or not, training from scratch", scratch, results),
    ]


def _figures_table(name: str, title: str, strategies: Iterable[str], results: Results) -> Table:
    rows = tuple(row for strategy in strategies for row in _figures_rows(strategy, results.get(strategy)))
    return Table(name, title, ("Strategy", "Figures"), PERCENT_COLUMNS, rows, FIGURES_NOTE)


def _figures_rows(strategy: str, result: StrategyResult | None) -> list[Row]:
    shown, printed = TITLES[strategy], paper_figures(strategy)
    paper = Row((shown, "paper"), tuple(printed[m] for m in MEASURES), "paper")
    if result is None:
        return [Row((shown, "this study: not run"), (None,) * len(MEASURES), "absent"), paper]
    gaps = tuple(difference(result.mean[m], printed[m]) for m in MEASURES)
    return [
        Row((shown, "this study, mean"), tuple(result.spread[m] for m in MEASURES), "study"),
        Row((shown, "this study, pooled"), tuple(result.pooled[m] for m in MEASURES)),
        paper,
        Row((shown, "mean − paper"), gaps, "difference"),
    ]


def _seven_class_table(name: str, title: str, strategy: str, results: Results) -> Table:
    ours = results[strategy].matrix if strategy in results else None
    return _matrix_table(name, title, CLASSES, ours, paper_matrix(strategy))


def _two_class_table(name: str, title: str, strategy: str, results: Results) -> Table:
    ours, printed = results.get(strategy), paper_two_class(strategy)
    return _matrix_table(
        name, title, TWO_CLASSES, two_class(ours.matrix).matrix if ours else None, printed.matrix if printed else None
    )


def _matrix_table(
    name: str, title: str, labels: tuple[str, ...], ours: "np.ndarray | None", paper: "np.ndarray | None"
) -> Table:
    rows = [*_count_rows("this study (images)", labels, ours), *_count_rows("paper (images)", labels, paper)]
    if ours is not None and paper is not None:
        rows += _gap_rows(labels, ours, paper)
    return Table(name, title, ("Figures", "Actual ↓ predicted →"), labels, tuple(rows), MATRIX_NOTE)


def _count_rows(head: str, labels: tuple[str, ...], matrix: "np.ndarray | None") -> list[Row]:
    if matrix is None:
        return [Row((head, "not run"), (None,) * len(labels), "absent")]
    kind = "paper" if head.startswith("paper") else "study"
    return [Row((head, label), tuple(map(int, row)), kind) for label, row in zip(labels, matrix, strict=True)]


def _gap_rows(labels: tuple[str, ...], ours: "np.ndarray", paper: "np.ndarray") -> list[Row]:
    rows = []
    for label, shares, printed in zip(labels, row_shares(ours), row_shares(paper), strict=True):
        gaps = tuple(difference(a, b) for a, b in zip(shares, printed, strict=True))
        rows.append(Row(("difference (points)", label), gaps, "difference"))
    return rows
