"""How far the class of an image and the source that it comes from tell each other, over the images of a study.

Everything is from a table of images by class, then source, as `metrics.source_counts` gives it. The study's images are
all there are, not a sample, so these figures have no interval.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cxr_platform.evaluation.metrics import percentage
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import numpy as np

Counts = Mapping[str, Mapping[str, int]]


def sources_of(counts: Counts) -> list[str]:
    """Every source with an image, the one with most images first, equals by name."""
    images: dict[str, int] = {}
    for by_source in counts.values():
        for source, n in by_source.items():
            images[source] = images.get(source, 0) + n
    return sorted((s for s in images if images[s]), key=lambda s: (-images[s], s))


def count_table(counts: Counts) -> "np.ndarray":
    """(7, sources) images: classes in the order of `CLASSES`, sources in that of `sources_of`."""
    import numpy as np

    return np.array([[counts.get(c, {}).get(s, 0) for s in sources_of(counts)] for c in CLASSES], dtype=int)


def cramers_v(counts: Counts) -> float | None:
    """Cramér's V with Bergsma's correction: 0 where the source says nothing of the class, 1 where one of the two
    follows from the other. `None` with fewer than two classes or two sources.

    Uncorrected, V is 0.3 for a few dozen images whose source was drawn by lot (Bergsma 2013, J. Korean Stat. Soc.
    42:323).
    """
    from scipy.stats.contingency import association

    table = count_table(counts)
    table = table[table.any(axis=1)]  # a class without images says nothing, and SciPy refuses empty rows
    if min(table.shape) < 2:
        return None
    images, (rows, columns) = int(table.sum()), table.shape
    phi_squared = float(association(table, method="cramer")) ** 2 * min(rows - 1, columns - 1)
    expected = (rows - 1) * (columns - 1) / (images - 1)
    least = min(_corrected(rows, images), _corrected(columns, images)) - 1
    return min(1.0, (max(0.0, phi_squared - expected) / least) ** 0.5) if least > 0 else None


def _corrected(categories: int, images: int) -> float:
    return categories - (categories - 1) ** 2 / (images - 1)


def single_source(counts: Counts) -> dict[str, str]:
    """Classes whose images all come from one source, with that source."""
    table, sources = count_table(counts), sources_of(counts)
    return {c: sources[int(row.argmax())] for c, row in zip(CLASSES, table, strict=True) if (row > 0).sum() == 1}


def source_shares(counts: Counts) -> dict[str, dict[str, float | None]]:
    """Of each class, the percent of its images from each source; `None` for a class without images."""
    sources = sources_of(counts)
    totals = {c: sum(counts.get(c, {}).values()) for c in CLASSES}
    return {c: {s: percentage(counts.get(c, {}).get(s, 0), totals[c]) for s in sources} for c in CLASSES}


def source_rule_matrix(counts: Counts) -> "np.ndarray":
    """(7, 7) images, actual class in rows, of a rule that sees only the source and answers its most frequent class.

    It is made and tested on the same images: the most that any rule from the source alone can reach on them.
    """
    import numpy as np

    table = count_table(counts)
    matrix = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    for column in table.T:
        matrix[:, column.argmax()] += column
    return matrix
