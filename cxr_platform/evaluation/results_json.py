"""`results.json`: all numbers of a study as JSON."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from cxr_platform.evaluation.metrics import MEASURES, StrategyResult, difference, two_class
from cxr_platform.evaluation.paper import ARXIV_ID, paper_matrix, paper_metrics
from cxr_platform.evaluation.report_contents import ReportContents
from cxr_platform.evaluation.study_results import RULE, StudyResults
from cxr_platform.evaluation.summary import winner_line
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

SCHEMA_VERSION = 5
STUDY_KEYS = {"name", "protocol", "folds", "strategies", "started", "versions", "hardware"}


def results_tree(contents: ReportContents) -> dict[str, Any]:
    """Return values for JSON. Rates are percentages, matrices have the actual class in rows, undefined is null."""
    results, use = contents.results, contents.resource_use
    return {
        "schema_version": SCHEMA_VERSION,
        "rates_unit": "percent",
        "matrix_rows": "actual class",
        "classes": list(CLASSES),
        "positive_class": POSITIVE_CLASS,
        "study": results.study.model_dump(mode="json", include=STUDY_KEYS),
        "manifest": results.study.manifest.model_dump(mode="json"),
        "resource_use": {
            **asdict(use),
            "cache": None if use.cache is None else use.cache.model_dump(),
            "trials_at_once": use.trials_at_once,
            "gpus_at_once": use.gpus_at_once,
        },
        "counts": results.counts,
        "known_patients": _known_patients(results),
        "majority_class_accuracy": results.majority_accuracy,
        "summary": _summary(contents),
        "winner": {**asdict(results.decision), "rule": RULE, "line": winner_line(results)},
        "strategies": {name: _strategy(result) for name, result in results.strategies.items()},
        "not_run": list(results.study.not_run),
        "findings": plain(asdict(contents.findings)),
        "sections": {
            section.name: {
                "title": section.title,
                "absent": section.absent or None,
                "warnings": list(section.warnings),
                "values": plain(section.values),
            }
            for section in contents.sections
        },
        "paper": f"arXiv:{ARXIV_ID}",
    }


def _known_patients(results: StudyResults) -> dict[str, Any]:
    known, total = results.known_patients, results.all_known_patients
    sources = {source: {**asdict(part), "share": part.share} for source, part in known.items()}
    return {**asdict(total), "share": total.share, "sources": sources}


def plain(value: Any) -> Any:
    """Return values for JSON: NumPy's numbers as Python's, tuples as lists, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _summary(contents: ReportContents) -> dict[str, Any]:
    summary = contents.summary
    return {
        "headline": summary.headline,
        "lines": [{"title": line.title, "text": line.text, "alarm": line.alarm} for line in summary.lines],
        "warnings": list(summary.warnings),
        "limits": list(summary.limits),
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
