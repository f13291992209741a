"""Leave one origin out: predictions for all images by classifiers that were fitted without one hospital or publication.

`left_out_sources` measures recall on the origin left out. Here the images of all other origins are scored by the same
classifiers, out-of-fold, so that images of the origin left out can be ranked against them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from cxr_platform.domain.predictions import probability_columns
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import POSITIVE, Array
from cxr_platform.evidence.left_out_sources import training_rows
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.evidence.probe_models import class_probabilities, fitted, on_features, whole_image_features
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.training.data import StudyData

TITLE = "One hospital left out"
PARTS = 3
"""Folds are joined to so many parts at most: each is a classifier per origin."""


def hospital_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `hospitals`: predictions of the whole-image classifier for all images, once per origin left out.

    `source` is the origin. The images of the origin left out are scored by the mean of the classifiers, the others
    by the one that was not fitted to their fold. Raise `NotPossible` if no origin can be left out because the others
    have no Covid19 or nothing else, `WeightsError` without ImageNet weights.
    """
    data = replace(opened.data, sources=opened.origins)
    origins = [origin for origin in np.unique(data.sources) if _can_train(data, origin)]
    if not origins:
        raise NotPossible(
            f"Expected {POSITIVE_CLASS} from two hospitals or more to leave one out.",
            received="one",
            advice=f"Add images of {POSITIVE_CLASS} from another hospital.",
        )
    features = whole_image_features(opened)
    return {"hospitals": pa.concat_tables(_tables(opened, data, features, origins))}


def _can_train(data: StudyData, origin: str) -> bool:
    labels = np.unique(data.labels[training_rows(data, origin)])
    return POSITIVE in labels and len(labels) > 1


def _tables(opened: OpenStudy, data: StudyData, features: Array, origins: list[str]) -> Iterator[pa.Table]:
    part = data.folds % min(PARTS, len(np.unique(data.folds)))
    for done, origin in enumerate(origins, 1):
        train, unseen = training_rows(data, origin), np.flatnonzero(data.sources == origin)
        probabilities = np.zeros((len(data.labels), len(CLASSES)), "float32")
        for held_out in np.unique(part):
            fit = train[part[train] != held_out]
            test = train[part[train] == held_out]
            model = fitted(on_features, features[fit], data.labels[fit])
            probabilities[test] = class_probabilities(model, features[test])
            probabilities[unseen] += class_probabilities(model, features[unseen]) / len(np.unique(part))
        yield _table(data, np.sort(np.concatenate([train, unseen])), origin, probabilities)
        opened.progress.step(TITLE, done, len(origins))


def _table(data: StudyData, rows: Array, origin: str, probabilities: Array) -> pa.Table:
    keys = {
        "left_out": np.full(len(rows), origin),
        "image_id": data.image_ids[rows],
        "group_id": data.group_ids[rows],
        "source": data.sources[rows],
        "label": np.array(CLASSES)[data.labels[rows]],
    }
    return pa.table({**{k: pa.array(v) for k, v in keys.items()}, **probability_columns(probabilities[rows])})
