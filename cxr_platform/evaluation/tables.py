"""Tables beside those of the sections: the paper's seven, all strategies, confusion matrices and every fold."""

from dataclasses import replace

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.metrics import MEASURES, Results, row_shares
from cxr_platform.evaluation.paper_form import FIGURES_NOTE, PERCENT_COLUMNS, paper_form_tables
from cxr_platform.evaluation.ranking import RULE_ORDER
from cxr_platform.evaluation.study_results import Outcome
from cxr_platform.evaluation.table import Row, Table, Value
from cxr_platform.labels import CLASSES, PAPER_COUNTS

SUMMARY_ORDER = (*RULE_ORDER, *(m for m in MEASURES if m not in RULE_ORDER))


def report_tables(outcome: Outcome) -> dict[str, Table]:
    """Tables by name, in the order of the report, marked where the images are synthetic."""
    tables = [
        summary_table(outcome),
        *paper_form_tables(outcome.results),
        *confusion_tables(outcome.results),
        folds_table(outcome.results),
    ]
    return {table.name: replace(table, synthetic=outcome.study.manifest.synthetic) for table in tables}


def summary_table(outcome: Outcome) -> Table:
    """All strategies, best first by the paper's rule; those not run stand last and say so."""
    columns = [f"{MEASURES[m]}, {how} (%)" for m in SUMMARY_ORDER for how in ("mean", "pooled")]
    rows = []
    for place, result in enumerate(outcome.ranking, start=1):
        values: list[Value] = [v for m in SUMMARY_ORDER for v in (result.spread[m], result.pooled[m])]
        rows.append(Row((TITLES[result.strategy],), (place, *values), "winner" if place == 1 else ""))
    rows += [Row((TITLES[s],), ("not run", *[None] * len(columns)), "absent") for s in outcome.study.not_run]
    note = f"Best first by the paper's rule. {FIGURES_NOTE}"
    return Table("summary", "All strategies", ("Strategy",), ("Place", *columns), tuple(rows), note)


def counts_table(outcome: Outcome) -> Table:
    """Images of each class by source, beside the paper's number of images (§2.1)."""
    sources = sorted({source for by_source in outcome.counts.values() for source in by_source})
    counts = [[outcome.counts[label].get(source, 0) for source in sources] for label in CLASSES]
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
        Row((TITLES[name], str(fold.fold)), (int(fold.matrix.sum()), *(fold.figures[m] for m in MEASURES)))
        for name, result in results.items()
        for fold in result.folds
    ]
    columns = ("images", *PERCENT_COLUMNS)
    note = "A dash stands for a figure that is undefined: sensitivity in a fold without a Covid19 image, say."
    return Table("folds", "Every fold", ("Strategy", "Fold"), columns, tuple(rows), note)
