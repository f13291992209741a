"""Tables of the report: all strategies, the paper's Tables 1 to 7, confusion matrices, all folds, images by source,
prediction sets.

`report_tables` returns all but the images by source and the coverage of prediction sets, which sections show.
"""

from collections.abc import Iterable
from dataclasses import replace

from cxr_platform.domain.prediction_set import PredictionSets
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import Value
from cxr_platform.evaluation.metrics import MEASURES, Results, StrategyResult, difference, row_shares, two_class
from cxr_platform.evaluation.paper import paper_matrix, paper_metrics, paper_two_class
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.study_results import RULE_ORDER, StudyResults
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, PAPER_COUNTS

FINE_TUNING = tuple(name for name in TITLES if name.startswith("fine-tuning"))
PERCENT_COLUMNS = tuple(f"{heading} (%)" for heading in MEASURES.values())
SUMMARY_ORDER = (*RULE_ORDER, *(m for m in MEASURES if m not in RULE_ORDER))
TWO_CLASSES = ("Covid19", "non-Covid19")
METRICS_NOTE = (
    "Mean ± standard deviation (n − 1) over folds, not a confidence interval; pooled: all folds counted together. "
    "Two-class figures are Covid19 against the rest. A dash: not printed in the paper, or undefined."
)
MATRIX_NOTE = (
    "Rows are the actual class, columns the predicted class; the paper prints the transpose. "
    "Differences are between percentages of the actual class, because the numbers of images may differ."
)

SETS_NOTE = (
    "Coverage: images of the class whose set contains it, by thresholds of other patients, with the 95 % confidence "
    "interval by bootstrap over patients; each patient counts once. Threshold: for use, chosen on all patients."
)


def report_tables(results: StudyResults) -> dict[str, Table]:
    """Return the tables that no section has, by name, in the order of the report; marked if images are synthetic."""
    tables = [
        summary_table(results),
        *paper_form_tables(results.strategies),
        *confusion_tables(results.strategies),
        folds_table(results.strategies),
    ]
    return {table.name: replace(table, synthetic=results.study.manifest.synthetic) for table in tables}


def summary_table(results: StudyResults) -> Table:
    """Return one row per strategy, best first by the paper's rule; those that were not run come last."""
    columns = [f"{MEASURES[m]}, {how} (%)" for m in SUMMARY_ORDER for how in ("mean", "pooled")]
    rows = []
    for place, result in enumerate(results.ranking, start=1):
        values: list[Value] = [v for m in SUMMARY_ORDER for v in (result.spread[m], result.pooled[m])]
        rows.append(Row((TITLES[result.strategy],), (place, *values), "winner" if place == 1 else ""))
    rows += [Row((TITLES[s],), ("not run", *[None] * len(columns)), "absent") for s in results.study.not_run]
    note = f"Best first by the paper's rule. {METRICS_NOTE}"
    return Table("summary", "All strategies", ("Strategy",), ("Place", *columns), tuple(rows), note)


def paper_form_tables(strategies: Results) -> list[Table]:
    """Return the paper's Tables 1 to 7 with this study, the paper and their difference, as far as each has figures."""
    shelf, scratch = "off-the-shelf", "scratch"
    return [
        _metrics_table("table-1", f"Table 1. {TITLES[shelf]}", [shelf], strategies),
        _seven_class_table("table-2", "Table 2. Seven classes, off-the-shelf features", shelf, strategies),
        _two_class_table("table-3", "Table 3. Covid19 or not, off-the-shelf features", shelf, strategies),
        _metrics_table("table-4", "Table 4. Fine-tuning", FINE_TUNING, strategies),
        _metrics_table("table-5", f"Table 5. {TITLES[scratch]}", [scratch], strategies),
        _seven_class_table("table-6", "Table 6. Seven classes, training from scratch", scratch, strategies),
        _two_class_table("table-7", "Table 7. Covid19 or not, training from scratch", scratch, strategies),
    ]


def counts_table(results: StudyResults) -> Table:
    """Return the number of images per class and source, and in the paper (§2.1)."""
    sources = sorted({source for by_source in results.counts.values() for source in by_source})
    counts = [[results.counts[label].get(source, 0) for source in sources] for label in CLASSES]
    cells = [[*row, sum(row), PAPER_COUNTS[label]] for label, row in zip(CLASSES, counts, strict=True)]
    rows = [Row((label,), tuple(row)) for label, row in zip(CLASSES, cells, strict=True)]
    rows.append(Row(("All classes",), tuple(sum(column) for column in zip(*cells, strict=True)), "total"))
    columns = (*sources, "all sources", "paper")
    return Table("counts", "Images by class and source", ("Class",), columns, tuple(rows))


def confusion_tables(strategies: Results) -> list[Table]:
    """Return one confusion matrix per strategy in images, rows actual, with the recall per class."""
    columns = (*CLASSES, "images", "recall (%)")
    note = (
        "Rows are the actual class, columns the predicted class. Recall is the share of the class that was recognised."
    )
    tables = []
    for name, result in strategies.items():
        shares = row_shares(result.matrix)
        rows = [
            Row((label,), (*map(int, counts), int(counts.sum()), shares[i][i]))
            for i, (label, counts) in enumerate(zip(CLASSES, result.matrix, strict=True))
        ]
        title = f"Confusion matrix, {TITLES[name].lower()}"
        tables.append(Table(f"confusion-{name}", title, ("Actual ↓ predicted →",), columns, tuple(rows), note))
    return tables


def folds_table(strategies: Results) -> Table:
    """Return the metrics of every held-out fold of every strategy."""
    rows = [
        Row((TITLES[name], str(fold.fold)), (int(fold.matrix.sum()), *(fold.metrics[m] for m in MEASURES)))
        for name, result in strategies.items()
        for fold in result.folds
    ]
    columns = ("images", *PERCENT_COLUMNS)
    note = "A dash is an undefined value, for example sensitivity in a fold without Covid19 images."
    return Table("folds", "Every fold", ("Strategy", "Fold"), columns, tuple(rows), note)


def _metrics_table(name: str, title: str, names: Iterable[str], strategies: Results) -> Table:
    rows = tuple(row for strategy in names for row in _metrics_rows(strategy, strategies.get(strategy)))
    return Table(name, title, ("Strategy", "Figures"), PERCENT_COLUMNS, rows, METRICS_NOTE)


def _metrics_rows(strategy: str, result: StrategyResult | None) -> list[Row]:
    title, printed = TITLES[strategy], paper_metrics(strategy)
    paper = Row((title, "paper"), tuple(printed[m] for m in MEASURES), "paper")
    if result is None:
        return [Row((title, "this study: not run"), (None,) * len(MEASURES), "absent"), paper]
    differences = tuple(difference(result.mean[m], printed[m]) for m in MEASURES)
    return [
        Row((title, "this study, mean"), tuple(result.spread[m] for m in MEASURES), "study"),
        Row((title, "this study, pooled"), tuple(result.pooled[m] for m in MEASURES)),
        paper,
        Row((title, "mean − paper"), differences, "difference"),
    ]


def _seven_class_table(name: str, title: str, strategy: str, strategies: Results) -> Table:
    ours = strategies[strategy].matrix if strategy in strategies else None
    return _matrix_table(name, title, CLASSES, ours, paper_matrix(strategy))


def _two_class_table(name: str, title: str, strategy: str, strategies: Results) -> Table:
    ours, printed = strategies.get(strategy), paper_two_class(strategy)
    return _matrix_table(
        name, title, TWO_CLASSES, two_class(ours.matrix).matrix if ours else None, printed.matrix if printed else None
    )


def _matrix_table(name: str, title: str, labels: tuple[str, ...], ours: Array | None, paper: Array | None) -> Table:
    rows = [*_count_rows("this study (images)", labels, ours), *_count_rows("paper (images)", labels, paper)]
    if ours is not None and paper is not None:
        for label, shares, printed in zip(labels, row_shares(ours), row_shares(paper), strict=True):
            differences = tuple(difference(a, b) for a, b in zip(shares, printed, strict=True))
            rows.append(Row(("difference (points)", label), differences, "difference"))
    return Table(name, title, ("Figures", "Actual ↓ predicted →"), labels, tuple(rows), MATRIX_NOTE)


def _count_rows(head: str, labels: tuple[str, ...], matrix: Array | None) -> list[Row]:
    if matrix is None:
        return [Row((head, "not run"), (None,) * len(labels), "absent")]
    kind = "paper" if head.startswith("paper") else "study"
    return [Row((head, label), tuple(map(int, row)), kind) for label, row in zip(labels, matrix, strict=True)]


def sets_table(sets: PredictionSets, synthetic: bool) -> Table:
    """Return patients, threshold and out-of-fold coverage of prediction sets by class."""
    rows = []
    for part in sets.classes:
        stated = part.threshold is not None
        threshold = f"{part.threshold:.4f}" if stated else "too few patients"
        rows.append(Row((part.label,), (part.patients, threshold, part.coverage if stated else None)))
    title = f"Prediction sets for {100 * sets.coverage:g} % coverage"
    columns = ("Patients", "Threshold", "Coverage (%)")
    return Table("prediction-sets", title, ("Class",), columns, tuple(rows), SETS_NOTE, synthetic)
