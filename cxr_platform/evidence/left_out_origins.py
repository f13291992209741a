"""Leave one origin, a hospital or a publication, out: predictions by classifiers that were fitted without it.

Sources of one origin are left out together, and with them the groups of their images.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from cxr_platform.domain.predictions import probability_columns
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import POSITIVE, Array
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.evidence.probe_models import class_probabilities, fitted, on_features, whole_image_features
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.training.data import StudyData

TITLE = "One source left out"
PARTS = 3
"""Folds are joined to so many parts at most: each is a classifier per origin in `hospital_predictions`."""


def left_out_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `left_out`: predictions of the whole-image classifier for images of classes with several sources.

    `source` is the origin, and `trained_on` the number of images of the class that the classifier was fitted to. Raise
    `NotPossible` if no class has two sources, `WeightsError` without ImageNet weights.
    """
    opened = opened.probed
    data = replace(opened.data, sources=opened.origins)
    sources = [s for s in np.unique(data.sources) if len(rows_to_test(data, s))]
    if not sources:
        raise NotPossible(
            "Expected a class with images of two sources or more to leave one out.",
            received="one source for each class",
            advice="Add images of a class from another source.",
        )
    features, tables = whole_image_features(opened), []
    for done, source in enumerate(sources, 1):
        train, test = training_rows(data, source), rows_to_test(data, source)
        trained_on = np.bincount(data.labels[train], minlength=len(CLASSES))[data.labels[test]].astype("int32")
        names = {"source": data.sources[test], "trained_on": trained_on}
        tables.append(_predicted(data, features, train, test, names))
        opened.progress.step(TITLE, done, len(sources))
    return {"left_out": pa.concat_tables(tables)}


def hospital_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `hospitals`: predictions of the whole-image classifier for all images, once per origin left out.

    Each of several classifiers is fitted to all folds but a `part` of them. It scores that part, and the images of the
    origin left out: both by one classifier, as a mean over several is less extreme than the scores of each. Raise
    `NotPossible` if no origin can be left out because the others have no Covid19 or nothing else, `WeightsError`
    without ImageNet weights.
    """
    opened = opened.probed
    data = replace(opened.data, sources=opened.origins)
    part = data.folds % min(PARTS, len(np.unique(data.folds)))
    origins = [origin for origin in np.unique(data.sources) if _can_train(data, origin, part)]
    if not origins:
        raise NotPossible(
            f"Expected {POSITIVE_CLASS} from two hospitals or more, each in several folds, to leave one out.",
            received=f"{POSITIVE_CLASS} from {len(set(data.sources[data.labels == POSITIVE]))}",
            advice=f"Add images of {POSITIVE_CLASS} from another hospital.",
        )
    features = whole_image_features(opened)
    return {"hospitals": pa.concat_tables(_by_hospital(opened, data, features, part, origins))}


def _by_hospital(
    opened: OpenStudy, data: StudyData, features: Array, part: Array, origins: list[str]
) -> Iterator[pa.Table]:
    for done, origin in enumerate(origins, 1):
        train, unseen = training_rows(data, origin), np.flatnonzero(data.sources == origin)
        for held_out in np.unique(part):
            fit, rows = train[part[train] != held_out], np.append(train[part[train] == held_out], unseen)
            names = {
                "left_out": np.full(len(rows), origin),
                "part": np.full(len(rows), held_out, "int32"),
                "origin": data.sources[rows],
            }
            yield _predicted(data, features, fit, rows, names)
        opened.progress.step("One hospital left out", done, len(origins))


def rows_to_test(data: StudyData, source: str) -> Array:
    """Return rows of the images of `source` whose class has training images without it."""
    kept = training_rows(data, source)
    in_training = np.isin(data.labels, np.unique(data.labels[kept]))
    return np.flatnonzero((data.sources == source) & in_training)


def training_rows(data: StudyData, source: str) -> Array:
    """Return rows of the images that share neither source nor group with an image of `source`."""
    groups = np.unique(data.group_ids[data.sources == source])
    return np.flatnonzero((data.sources != source) & ~np.isin(data.group_ids, groups))


def _can_train(data: StudyData, origin: str, part: Array) -> bool:
    """Return True if the images that are left have Covid19 and others, whichever part is held out."""
    kept = training_rows(data, origin)
    fits = [np.unique(data.labels[kept[part[kept] != held_out]]) for held_out in np.unique(part)]
    return all(POSITIVE in labels and len(labels) > 1 for labels in fits)


def _predicted(data: StudyData, features: Array, train: Array, rows: Array, names: Mapping[str, Any]) -> pa.Table:
    """Return the predictions for `rows` by a classifier fitted to the rows `train`, with the columns `names`."""
    model = fitted(on_features, features[train], data.labels[train])
    keys = {
        **names,
        "image_id": data.image_ids[rows],
        "group_id": data.group_ids[rows],
        "label": np.array(CLASSES)[data.labels[rows]],
    }
    scores = probability_columns(class_probabilities(model, features[rows]))
    return pa.table({**{k: pa.array(v) for k, v in keys.items()}, **scores})
