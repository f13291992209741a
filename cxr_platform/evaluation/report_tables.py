"""The paper's Tables 1 to 7 for this study, each figure beside the paper's own and their difference."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import Value
from cxr_platform.evaluation.metrics import MEASURES, Results, StrategyResult, difference, row_shares, two_class
from cxr_platform.evaluation.paper import paper_matrix, paper_metrics, paper_two_class
from cxr_platform.evaluation.study_results import RULE_ORDER, StudyResults
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, PAPER_COUNTS

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
    shown, printed = TITLES[strategy], paper_metrics(strategy)
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


# Tables beside those of the sections: the paper's seven, all strategies, confusion matrices and every fold.


SUMMARY_ORDER = (*RULE_ORDER, *(m for m in MEASURES if m not in RULE_ORDER))


def report_tables(results: StudyResults) -> dict[str, Table]:
    """Tables by name, in the order of the report, marked where the images are synthetic."""
    tables = [
        summary_table(results),
        *paper_form_tables(results.strategies),
        *confusion_tables(results.strategies),
        folds_table(results.strategies),
    ]
    return {table.name: replace(table, synthetic=results.study.manifest.synthetic) for table in tables}


def summary_table(results: StudyResults) -> Table:
    """All strategies, best first by the paper's rule; those not run stand last and say so."""
    columns = [f"{MEASURES[m]}, {how} (%)" for m in SUMMARY_ORDER for how in ("mean", "pooled")]
    rows = []
    for place, result in enumerate(results.ranking, start=1):
        values: list[Value] = [v for m in SUMMARY_ORDER for v in (result.spread[m], result.pooled[m])]
        rows.append(Row((TITLES[result.strategy],), (place, *values), "winner" if place == 1 else ""))
    rows += [Row((TITLES[s],), ("not run", *[None] * len(columns)), "absent") for s in results.study.not_run]
    note = f"Best first by the paper's rule. {FIGURES_NOTE}"
    return Table("summary", "All strategies", ("Strategy",), ("Place", *columns), tuple(rows), note)


def counts_table(results: StudyResults) -> Table:
    """Images of each class by source, beside the paper's number of images (§2.1)."""
    sources = sorted({source for by_source in results.counts.values() for source in by_source})
    counts = [[results.counts[label].get(source, 0) for source in sources] for label in CLASSES]
    cells = [[*row, sum(row), PAPER_COUNTS[label]] for label, row in zip(CLASSES, counts, strict=True)]
    rows = [Row((label,), tuple(row)) for label, row in zip(CLASSES, cells, strict=True)]
    rows.append(Row(("All classes",), tuple(sum(column) for column in zip(*cells, strict=True)), "total"))
    columns = (*sources, "all sources", "paper")
    return Table("counts", "Images by class and source", ("Class",), columns, tuple(rows))


def confusion_tables(results: Results) -> list[Table]:
    """One table a strategy: images, actual class in rows, predicted class in columns, and each class's recall."""
    columns = (*CLASSES, "images", "recall (%)")
    note = "Rows are the actual class, columns the predicted one. Recall is the share of the class that was recognised."
    tables = []
    for name, result in results.items():
        shares = row_shares(result.matrix)
        rows = [
            Row((label,), (*map(int, counts), int(counts.sum()), shares[i][i]))
            for i, (label, counts) in enumerate(zip(CLASSES, result.matrix, strict=True))
        ]
        title = f"Confusion matrix, {TITLES[name].lower()}"
        tables.append(Table(f"confusion-{name}", title, ("Actual ↓ predicted →",), columns, tuple(rows), note))
    return tables


def folds_table(results: Results) -> Table:
    """Every held-out fold of every strategy."""
    rows = [
        Row((TITLES[name], str(fold.fold)), (int(fold.matrix.sum()), *(fold.metrics[m] for m in MEASURES)))
        for name, result in results.items()
        for fold in result.folds
    ]
    columns = ("images", *PERCENT_COLUMNS)
    note = "A dash stands for a figure that is undefined: sensitivity in a fold without a Covid19 image, say."
    return Table("folds", "Every fold", ("Strategy", "Fold"), columns, tuple(rows), note)
