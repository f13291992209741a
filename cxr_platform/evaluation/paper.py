"""The figures that arXiv:2004.00338 prints, as package data: `paper_tables.json`."""

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from cxr_platform.evaluation.metrics import MEASURES, Metrics, TwoClass

if TYPE_CHECKING:
    import numpy as np

ARXIV_ID = "2004.00338"


def paper_metrics(strategy: str) -> Metrics:
    """Percentages of Tables 1, 4 and 5 as printed; `None` where the paper prints none."""
    printed = paper_tables()["figures"][strategy]
    return Metrics(**{measure: printed[measure] for measure in MEASURES})


def paper_matrix(strategy: str) -> "np.ndarray | None":
    """Tables 2 and 6, (7, 7) images, rows actual and columns predicted; `None` for strategies without one."""
    import numpy as np

    rows = paper_tables()["confusion_matrices"].get(strategy)
    return None if rows is None else np.array(rows, dtype=int)


def paper_two_class(strategy: str) -> TwoClass | None:
    """Tables 3 and 7 as printed; `None` for strategies without one."""
    counts = paper_tables()["two_class"].get(strategy)
    return None if counts is None else TwoClass(**counts)


@cache
def paper_tables() -> dict[str, Any]:
    """The whole of `paper_tables.json`. Matrices are stored with rows actual, the transpose of the print."""
    text = resources.files("cxr_platform").joinpath("evaluation/paper_tables.json").read_text(encoding="utf-8")
    return json.loads(text)
