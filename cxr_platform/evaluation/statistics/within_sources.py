"""Does a class stand out among the other images of its own sources?

Between sources a network may go by the device, the format of the file or the age of the patients. Within a source that
has both the class and other images, these say little. Contrast images (of such a source, but with a finding that is
none of the seven classes) are other images too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import WithinSources
from cxr_platform.evaluation.predictions import Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.external import contradicts
from cxr_platform.evaluation.statistics.measures import RankedScores
from cxr_platform.labels import CLASSES

NO_CLASS = -1
"""Label of a contrast image."""


@dataclass(frozen=True, eq=False)
class RatedImages:
    """N images of the study and its contrast images with out-of-fold probabilities (N, 7) of one strategy.

    `label` (N,) has positions in `CLASSES`, or `NO_CLASS`; `source` and `group` are (N,) names.
    """

    label: Array
    source: Array
    group: Array
    probability: Array


def rated_images(predictions: Predictions, strategy: str, contrast: pd.DataFrame | None) -> RatedImages:
    """Return the images of the study, then those of `contrast`, which has the columns of the evidence part of it."""
    parts = [(predictions.label, predictions.source, predictions.group_id, predictions.probability[strategy])]
    if contrast is not None:
        rows = contrast[contrast["strategy"] == strategy]
        probability = rows[list(PROBABILITY_COLUMNS)].to_numpy(dtype=float)
        labels = np.full(len(rows), NO_CLASS)
        parts.append((labels, rows["source"].to_numpy(object), rows["group_id"].to_numpy(object), probability))
    return RatedImages(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def within_sources(images: RatedImages, label: str, seed: int) -> WithinSources | None:
    """Return figures of `label` within the sources that have it and other images; `None` without such a source."""
    positive = images.label == CLASSES.index(label)
    with_class = np.isin(images.source, sorted(set(images.source[positive])))
    inside = with_class & np.isin(images.source, sorted(set(images.source[~positive])))
    if not (inside & positive).any():
        return None
    others, elsewhere = inside & ~positive, _elsewhere(images, ~with_class, inside & ~positive)
    bootstrap = Bootstrap(images.group, seed=seed)
    not_called = images.probability.argmax(axis=1) != CLASSES.index(label)
    scores, together = images.probability[:, CLASSES.index(label)], np.zeros(len(positive))
    auc = paired_auc(scores, inside & positive, others, images.source, bootstrap)
    auc_elsewhere = paired_auc(scores, positive, elsewhere, together, bootstrap)
    specificity, specificity_elsewhere = (bootstrap.rate(not_called, among) for among in (others, elsewhere))
    return WithinSources(
        label=label,
        sources=tuple(sorted(set(images.source[inside]))),
        images=int((inside & positive).sum()),
        others=int(others.sum()),
        contrast=int((others & (images.label == NO_CLASS)).sum()),
        auc=auc,
        specificity=specificity,
        auc_elsewhere=auc_elsewhere,
        specificity_elsewhere=specificity_elsewhere,
        falls=contradicts(auc, auc_elsewhere) or contradicts(specificity, specificity_elsewhere),
    )


def single_sources(images: RatedImages, within: WithinSources, seed: int) -> Iterator[WithinSources]:
    """Yield the figures of each of `within.sources` alone."""
    for source in within.sources:
        # Images of other sources stay: without the class of this source, they are what it is compared with.
        kept = (images.source == source) | ~np.isin(images.source, within.sources)
        part = RatedImages(*(getattr(images, name)[kept] for name in ("label", "source", "group", "probability")))
        alone = within_sources(part, within.label, seed)
        if alone is not None:
            yield alone


def _elsewhere(images: RatedImages, outside: Array, others: Array) -> Array:
    """Return (N,) bool: images `outside` the sources of a class, of the classes of `others` if there are such.

    A class that is hard to tell from this one everywhere must not count against its own source.
    """
    same = outside & np.isin(images.label, sorted(set(images.label[others])))
    return same if same.any() else outside


def paired_auc(scores: Array, positive: Array, negative: Array, stratum: Array, bootstrap: Bootstrap) -> Interval:
    """Return the share of pairs, a positive and a negative image of one stratum, in which the positive scores higher.

    All arrays are (N,); ties count half. Undefined without such a pair.
    """
    parts = []
    for value in np.unique(stratum[positive | negative]):
        rows = np.flatnonzero((positive | negative) & (stratum == value))
        if positive[rows].any() and negative[rows].any():
            parts.append((rows, positive[rows], RankedScores(scores[rows], positive[rows])))
    if not parts:
        return Interval(None, ratio=True)

    def area(weights: Array) -> Array:
        ranked, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for rows, is_positive, scored in parts:
            drawn = weights[:, rows].astype(float)
            count = drawn[:, is_positive].sum(axis=1) * drawn[:, ~is_positive].sum(axis=1)
            ranked += np.where(count > 0, np.nan_to_num(scored.areas(drawn)[:, 0]) * count, 0)
            pairs += count
        with np.errstate(invalid="ignore"):
            return np.asarray(ranked / pairs)

    value = float(area(np.ones((1, len(scores)), np.float32))[0])
    if bootstrap.groups < 2:
        return Interval(value, ratio=True)
    return percentile_interval(value, bootstrap.replicate(area), ratio=True)
