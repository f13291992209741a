"""Association of class and source over the images of a study.

Input is a table of images by class, then source (`metrics.source_counts`). The study's images are the whole population
here, not a sample, so there are no intervals.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from scipy.stats.contingency import association

from cxr_platform.evaluation.metrics import percentage
from cxr_platform.evaluation.predictions import Array
from cxr_platform.labels import CLASSES

Counts: TypeAlias = Mapping[str, Mapping[str, int]]
"""Class → source → images."""


def sources_of(counts: Counts) -> list[str]:
    """Return the sources with images, largest first, then by name."""
    images: dict[str, int] = {}
    for by_source in counts.values():
        for source, n in by_source.items():
            images[source] = images.get(source, 0) + n
    return sorted((s for s in images if images[s]), key=lambda s: (-images[s], s))


def count_table(counts: Counts) -> Array:
    """Return (7, sources) numbers of images, in the orders of `CLASSES` and `sources_of`."""
    return np.array([[counts.get(c, {}).get(s, 0) for s in sources_of(counts)] for c in CLASSES], dtype=int)


def cramers_v(counts: Counts) -> float | None:
    """Return Cramér's V with Bergsma's correction: 0 for independence, 1 where one of the two determines the other.

    `None` with fewer than two classes or sources. The correction matters: for a few dozen images with random sources
    the uncorrected V is about 0.3 (Bergsma 2013, J. Korean Stat. Soc. 42:323).
    """
    table = count_table(counts)
    table = table[table.any(axis=1)]  # SciPy rejects empty rows
    if min(table.shape) < 2:
        return None
    images, (rows, columns) = int(table.sum()), table.shape
    phi_squared = float(association(table, method="cramer")) ** 2 * min(rows - 1, columns - 1)
    expected = (rows - 1) * (columns - 1) / (images - 1)
    smallest = min(_corrected(rows, images), _corrected(columns, images)) - 1
    return min(1.0, (max(0.0, phi_squared - expected) / smallest) ** 0.5) if smallest > 0 else None


def _corrected(categories: int, images: int) -> float:
    return categories - (categories - 1) ** 2 / (images - 1)


def single_source(counts: Counts) -> dict[str, str]:
    """Return the classes whose images all come from one source, with that source."""
    table, sources = count_table(counts), sources_of(counts)
    return {c: sources[int(row.argmax())] for c, row in zip(CLASSES, table, strict=True) if (row > 0).sum() == 1}


def source_shares(counts: Counts) -> dict[str, dict[str, float | None]]:
    """Return class → source → percentage of the class's images; `None` for a class without images."""
    sources = sources_of(counts)
    totals = {c: sum(counts.get(c, {}).values()) for c in CLASSES}
    return {c: {s: percentage(counts.get(c, {}).get(s, 0), totals[c]) for s in sources} for c in CLASSES}


def source_rule_matrix(counts: Counts) -> Array:
    """Return the (7, 7) confusion matrix of a rule that sees only the source and predicts its most frequent class.

    It is fitted and tested on the same images: an upper bound for any rule from the source alone.
    """
    table = count_table(counts)
    matrix = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    for column in table.T:
        matrix[:, column.argmax()] += column
    return matrix
