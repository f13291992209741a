"""Does a class stand out among the other images of its own sources?

Between sources a network may go by the device, the format of the file or the age of the patients. Within a source that
has both the class and other images, these say little. Contrast images (of such a source, but with a finding that is
none of the seven classes) are other images too.

The same images of the class are then compared with images of other origins. Some classes are harder to tell from it
than others, so both sides have to have the same mix of classes: each source and class counts on the other side as much
as within. Contrast images have no counterpart there and take no part in this comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import WithinSources
from cxr_platform.evaluation.predictions import Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.external import NO_CLASS, contradicts
from cxr_platform.evaluation.statistics.measures import mean_auc, paired_auc
from cxr_platform.labels import CLASSES


@dataclass(frozen=True, eq=False)
class RatedImages:
    """N images of the study and its contrast images with out-of-fold probabilities (N, 7) of one strategy.

    `label` (N,) has positions in `CLASSES`, or `NO_CLASS`; `source`, `origin` and `group` are (N,) names.
    """

    label: Array
    source: Array
    origin: Array
    group: Array
    probability: Array


def rated_images(
    predictions: Predictions, strategy: str, contrast: pd.DataFrame | None, origins: Mapping[str, str] | None = None
) -> RatedImages:
    """Return the images of the study, then those of `contrast`, which has the columns of the evidence part of it.

    `origins` maps a source to its origin; a source that it does not have is its own.
    """
    parts = [(predictions.label, predictions.source, predictions.group_id, predictions.probability[strategy])]
    if contrast is not None:
        rows = contrast[contrast["strategy"] == strategy]
        probability = rows[list(PROBABILITY_COLUMNS)].to_numpy(dtype=float)
        labels = np.full(len(rows), NO_CLASS)
        parts.append((labels, rows["source"].to_numpy(object), rows["group_id"].to_numpy(object), probability))
    label, source, group, probability = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    origin = np.array([(origins or {}).get(name, name) for name in source], dtype=object)
    return RatedImages(label, source, origin, group, probability)


def within_sources(
    images: RatedImages, label: str, seed: int, sources: Sequence[str] | None = None
) -> WithinSources | None:
    """Return figures of `label` within the sources that have it and other images; `None` without such a source.

    `sources` are those of them to look at, by default all.
    """
    is_label = images.label == CLASSES.index(label)
    both = set(images.source[is_label]) & set(images.source[~is_label])
    own = sorted(both if sources is None else both.intersection(sources))
    if not own:
        return None
    inside = np.isin(images.source, own)
    positive, others = inside & is_label, inside & ~is_label
    scores, not_called = (
        images.probability[:, CLASSES.index(label)],
        images.probability.argmax(axis=1) != CLASSES.index(label),
    )
    bootstrap = Bootstrap(images.group, seed=seed)
    outside = ~np.isin(images.origin, sorted(set(images.origin[is_label]))) & (images.label != NO_CLASS)
    compared = others & np.isin(images.label, images.label[outside])
    within, elsewhere, pairs, weights = [], [], [], np.zeros(len(scores))
    for position in np.unique(images.label[compared]):
        of_class = images.label == position
        weights[outside & of_class] = (compared & of_class).sum() / (outside & of_class).sum()
        for source in own:
            of_source, negative = positive & (images.source == source), compared & of_class & (images.source == source)
            within.append((of_source, negative))
            elsewhere.append((of_source, outside & of_class))
            pairs.append(float(of_source.sum() * negative.sum()))
    auc_compared, auc_elsewhere = (mean_auc(scores, parts, bootstrap, pairs) for parts in (within, elsewhere))
    rates = bootstrap.rate(not_called, compared), bootstrap.rate(not_called, weights)
    return WithinSources(
        label=label,
        sources=tuple(own),
        images=int(positive.sum()),
        others=int(others.sum()),
        contrast=int((others & (images.label == NO_CLASS)).sum()),
        groups=min(bootstrap.groups_among(positive), bootstrap.groups_among(others)),
        auc=paired_auc(scores, positive, others, images.source, bootstrap),
        specificity=bootstrap.rate(not_called, others),
        compared=int(compared.sum()),
        auc_compared=auc_compared,
        specificity_compared=rates[0],
        auc_elsewhere=auc_elsewhere,
        specificity_elsewhere=rates[1],
        falls=contradicts(auc_compared, auc_elsewhere) or contradicts(*rates),
    )
