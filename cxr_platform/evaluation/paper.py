"""The numbers printed in arXiv:2004.00338, from `paper_tables.json`."""

import json
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from cxr_platform.evaluation.metrics import MEASURES, Metrics, TwoClass
from cxr_platform.evaluation.predictions import Array

ARXIV_ID = "2004.00338"


def paper_metrics(strategy: str) -> Metrics:
    """Return the percentages of Tables 1, 4 and 5; `None` where the paper prints none, as for other strategies."""
    printed = paper_tables()["figures"].get(strategy, dict.fromkeys(MEASURES))
    return Metrics(**{measure: printed[measure] for measure in MEASURES})


def paper_matrix(strategy: str) -> Array | None:
    """Return the confusion matrix of Table 2 or 6, (7, 7) images, rows actual; `None` for strategies without one."""
    rows = paper_tables()["confusion_matrices"].get(strategy)
    return None if rows is None else np.array(rows, dtype=int)


def paper_two_class(strategy: str) -> TwoClass | None:
    """Return Table 3 or 7; `None` for strategies without one."""
    counts = paper_tables()["two_class"].get(strategy)
    return None if counts is None else TwoClass(**counts)


@cache
def paper_tables() -> dict[str, Any]:
    """Return all of `paper_tables.json`. Its matrices have rows actual, the transpose of the print."""
    text = resources.files("cxr_platform").joinpath("evaluation/paper_tables.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables
