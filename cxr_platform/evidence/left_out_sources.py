"""Leave one source out: predictions for each source by a classifier that was fitted without it.

Sources of one origin are left out together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from cxr_platform.domain.predictions import probability_columns
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.evidence.probe_models import class_probabilities, fitted, on_features, whole_image_features
from cxr_platform.labels import CLASSES
from cxr_platform.training.data import StudyData

TITLE = "One source left out"


def left_out_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `left_out`: predictions of the whole-image classifier for images of classes with several sources.

    The classifier is fitted without the image's source and without the groups of that source's images. `trained_on` is
    the number of images of the class that it was fitted to. Raise `NotPossible` if no class has two sources,
    `WeightsError` without ImageNet weights.
    """
    data = replace(opened.data, sources=opened.origins)
    sources = [s for s in np.unique(data.sources) if len(rows_to_test(data, s))]
    if not sources:
        raise NotPossible(
            "Expected a class with images of two sources or more to leave one out.",
            received="one source for each class",
            advice="Add images of a class from another source.",
        )
    features = whole_image_features(opened)
    return {"left_out": pa.concat_tables(_tables(opened, data, features, sources))}


def rows_to_test(data: StudyData, source: str) -> Array:
    """Return rows of the images of `source` whose class has training images without it."""
    kept = training_rows(data, source)
    in_training = np.isin(data.labels, np.unique(data.labels[kept]))
    return np.flatnonzero((data.sources == source) & in_training)


def training_rows(data: StudyData, source: str) -> Array:
    """Return rows of the images that share neither source nor group with an image of `source`."""
    groups = np.unique(data.group_ids[data.sources == source])
    return np.flatnonzero((data.sources != source) & ~np.isin(data.group_ids, groups))


def _tables(opened: OpenStudy, data: StudyData, features: Array, sources: list[str]) -> Iterator[pa.Table]:
    for done, source in enumerate(sources, 1):
        train, test = training_rows(data, source), rows_to_test(data, source)
        model = fitted(on_features, features[train], data.labels[train])
        counts = np.bincount(data.labels[train], minlength=len(CLASSES))
        yield _table(data, test, counts[data.labels[test]], class_probabilities(model, features[test]))
        opened.progress.step(TITLE, done, len(sources))


def _table(data: StudyData, rows: Array, trained_on: Array, probabilities: Array) -> pa.Table:
    keys = {
        "image_id": data.image_ids[rows],
        "group_id": data.group_ids[rows],
        "source": data.sources[rows],
        "label": np.array(CLASSES)[data.labels[rows]],
        "trained_on": trained_on.astype("int32"),
    }
    return pa.table({**{k: pa.array(v) for k, v in keys.items()}, **probability_columns(probabilities)})
