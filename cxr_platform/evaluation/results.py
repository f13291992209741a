"""`results.json`: every figure of a study for programs, in the words of `metrics.py`."""

from dataclasses import asdict
from typing import Any

from cxr_platform.evaluation.answer import answer
from cxr_platform.evaluation.metrics import MEASURES, StrategyResult, difference, two_class
from cxr_platform.evaluation.outcome import Outcome
from cxr_platform.evaluation.paper import ARXIV_ID, paper_figures, paper_matrix
from cxr_platform.evaluation.ranking import RULE
from cxr_platform.evaluation.study import Study
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

SCHEMA_VERSION = 1


def results_tree(outcome: Outcome) -> dict[str, Any]:
    """Plain values for JSON. Rates are percentages, matrices have the actual class in rows, undefined is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "rates_unit": "percent",
        "matrix_rows": "actual class",
        "classes": list(CLASSES),
        "positive_class": POSITIVE_CLASS,
        "study": _study(outcome.study),
        "manifest": asdict(outcome.study.manifest),
        "counts": outcome.counts,
        "majority_class_accuracy": outcome.majority_accuracy,
        "winner": {**asdict(outcome.verdict), "rule": RULE, "line": answer(outcome).winner_line},
        "strategies": {name: _strategy(result) for name, result in outcome.results.items()},
        "not_run": list(outcome.study.not_run),
        "paper": f"arXiv:{ARXIV_ID}",
    }


def _study(study: Study) -> dict[str, Any]:
    fields = ("name", "protocol", "folds", "strategies", "started", "versions", "hardware")
    return {field: getattr(study, field) for field in fields}


def _strategy(result: StrategyResult) -> dict[str, Any]:
    printed, matrix = paper_figures(result.strategy), paper_matrix(result.strategy)
    return {
        "mean": asdict(result.mean),
        "sd": {m: result.spread[m].sd for m in MEASURES},
        "folds_defined": {m: result.spread[m].defined for m in MEASURES},
        "pooled": asdict(result.pooled),
        "two_class": asdict(two_class(result.matrix)),
        "confusion_matrix": result.matrix.tolist(),
        "folds": [
            {
                "fold": fold.fold,
                "images": int(fold.matrix.sum()),
                **asdict(fold.figures),
                "confusion_matrix": fold.matrix.tolist(),
            }
            for fold in result.folds
        ],
        "paper": {**asdict(printed), "confusion_matrix": None if matrix is None else matrix.tolist()},
        "mean_minus_paper": {m: difference(result.mean[m], printed[m]) for m in MEASURES},
    }
