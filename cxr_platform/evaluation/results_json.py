"""`results.json`: every figure of a study for programs, in the words of `metrics.py`, and what each section found."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.metrics import MEASURES, StrategyResult, difference, two_class
from cxr_platform.evaluation.paper import ARXIV_ID, paper_matrix, paper_metrics
from cxr_platform.evaluation.report_contents import ReportContents, Section
from cxr_platform.evaluation.resource_use import ResourceUse
from cxr_platform.evaluation.study_results import RULE
from cxr_platform.evaluation.summary import Summary, winner_line
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

SCHEMA_VERSION = 2


def results_tree(contents: ReportContents) -> dict[str, Any]:
    """Plain values for JSON. Rates are percentages, matrices have the actual class in rows, undefined is null."""
    results = contents.results
    return {
        "schema_version": SCHEMA_VERSION,
        "rates_unit": "percent",
        "matrix_rows": "actual class",
        "classes": list(CLASSES),
        "positive_class": POSITIVE_CLASS,
        "study": _study(results.study),
        "manifest": results.study.manifest.model_dump(),
        "compute": _compute(contents.compute),
        "counts": results.counts,
        "majority_class_accuracy": results.majority_accuracy,
        "answer": _answer(contents.summary),
        "winner": {**asdict(results.decision), "rule": RULE, "line": winner_line(results)},
        "strategies": {name: _strategy(result) for name, result in results.strategies.items()},
        "not_run": list(results.study.not_run),
        "findings": plain(asdict(contents.findings)),
        "sections": {section.name: _section(section) for section in contents.sections},
        "paper": f"arXiv:{ARXIV_ID}",
    }


def plain(value: Any) -> Any:
    """Values as JSON knows them: NumPy's numbers as Python's, tuples as lists, what is not a finite number as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy scalar or array, without importing NumPy for this
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _answer(answer: Summary) -> dict[str, Any]:
    return {
        "headline": answer.headline,
        "lines": [{"title": line.title, "text": line.text, "alarm": line.alarm} for line in answer.lines],
        "warnings": list(answer.warnings),
        "limits": list(answer.limits),
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "absent": section.absent or None,
        "warnings": list(section.warnings),
        "values": plain(section.values),
    }


def _study(study: StudyRecord) -> dict[str, Any]:
    fields = {"name", "protocol", "folds", "strategies", "started", "versions", "hardware"}
    return study.model_dump(mode="json", include=fields)


def _compute(compute: ResourceUse) -> dict[str, Any]:
    """Seconds, and the averages over the wall seconds; null where a trial does not say."""
    return {
        **asdict(compute),
        "trials_at_once": compute.trials_at_once,
        "gpus_at_once": compute.gpus_at_once,
    }


def _strategy(result: StrategyResult) -> dict[str, Any]:
    printed, matrix = paper_metrics(result.strategy), paper_matrix(result.strategy)
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
                **asdict(fold.metrics),
                "confusion_matrix": fold.matrix.tolist(),
            }
            for fold in result.folds
        ],
        "paper": {**asdict(printed), "confusion_matrix": None if matrix is None else matrix.tolist()},
        "mean_minus_paper": {m: difference(result.mean[m], printed[m]) for m in MEASURES},
    }
