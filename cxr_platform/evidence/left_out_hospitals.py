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

    Each of several classifiers is fitted to all folds but a `part` of them. It scores that part, and the images of the
    origin left out: both by one classifier, as a mean over several is less extreme than the scores of each. Raise
    `NotPossible` if no origin can be left out because the others have no Covid19 or nothing else, `WeightsError`
    without ImageNet weights.
    """
    data = replace(opened.data, sources=opened.origins)
    part = data.folds % min(PARTS, len(np.unique(data.folds)))
    origins = [origin for origin in np.unique(data.sources) if _can_train(data, origin, part)]
    if not origins:
        raise NotPossible(
            f"Expected {POSITIVE_CLASS} from two hospitals or more to leave one out.",
            received=f"{len(set(data.sources[data.labels == POSITIVE]))}, without which a part of the folds has none",
            advice=f"Add images of {POSITIVE_CLASS} from another hospital.",
        )
    features = whole_image_features(opened)
    return {"hospitals": pa.concat_tables(_tables(opened, data, features, part, origins))}


def _can_train(data: StudyData, origin: str, part: Array) -> bool:
    """Return True if the images that are left have Covid19 and others, whichever part is held out."""
    kept = training_rows(data, origin)
    fits = [np.unique(data.labels[kept[part[kept] != held_out]]) for held_out in np.unique(part)]
    return all(POSITIVE in labels and len(labels) > 1 for labels in fits)


def _tables(opened: OpenStudy, data: StudyData, features: Array, part: Array, origins: list[str]) -> Iterator[pa.Table]:
    for done, origin in enumerate(origins, 1):
        train, unseen = training_rows(data, origin), np.flatnonzero(data.sources == origin)
        for held_out in np.unique(part):
            fit, rows = train[part[train] != held_out], np.append(train[part[train] == held_out], unseen)
            model = fitted(on_features, features[fit], data.labels[fit])
            keys = {
                "left_out": np.full(len(rows), origin),
                "part": np.full(len(rows), held_out, "int32"),
                "image_id": data.image_ids[rows],
                "group_id": data.group_ids[rows],
                "origin": data.sources[rows],
                "label": np.array(CLASSES)[data.labels[rows]],
            }
            scores = probability_columns(class_probabilities(model, features[rows]))
            yield pa.table({**{k: pa.array(v) for k, v in keys.items()}, **scores})
        opened.progress.step(TITLE, done, len(origins))
