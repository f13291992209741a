"""Leave one origin, a hospital or a publication, out: predictions by classifiers that were fitted without it.

Sources of one origin are left out together, and with them the groups of their images.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxr_platform.config import View
from cxr_platform.domain.predictions import probability_columns
from cxr_platform.domain.strategies import ROBUST
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import POSITIVE, Array
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.evidence.probe_models import TITLE as FEATURES
from cxr_platform.evidence.probe_models import (
    class_probabilities,
    fitted,
    image_features,
    on_features,
    whole_image_features,
)
from cxr_platform.evidence.robust_ablation import AblationData, head_answers
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.training.data import StudyData, load_view_images
from cxr_platform.training.robust_head import CONTRAST, fitting_rows

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
        tables.append(_predictions(data, _scores(data, features, train, test), test, names))
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

    def can_fit(rows: Array) -> bool:
        labels = np.unique(data.labels[rows])
        return POSITIVE in labels and len(labels) > 1

    def score(fit: Array, rows: Array) -> Array:
        return _scores(data, whole_image_features(opened), fit, rows)

    return {"hospitals": _without_each_hospital(opened, data, can_fit, score)}


def robust_hospital_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `hospitals_robust`: as `hospital_predictions`, by the head of the study's strategy `robust`.

    Contrast images are fitted to if the profile says so, and are never scored. Raise `NotPossible` if the study has no
    `robust`, or no head can be fitted without an origin.
    """
    if ROBUST not in opened.study.strategies:
        raise NotPossible(
            "Expected the strategy robust among those of the study.", received=", ".join(opened.study.strategies)
        )
    opened = opened.probed
    data, views = _with_contrast(opened)
    config, seed = opened.profile.robust, opened.profile.seed
    ablation = AblationData(data.labels, data.sources, data.group_ids, data.folds, views)

    def can_fit(rows: Array) -> bool:
        return fitting_rows(data.labels, data.sources, rows, config) is not None

    def score(fit: Array, rows: Array) -> Array:
        answers = head_answers(ablation, fit, rows, config, seed)
        assert answers is not None, "the origin can be left out"
        return answers.probabilities.astype("float32")

    return {"hospitals_robust": _without_each_hospital(opened, data, can_fit, score, " of the head of robust")}


def _with_contrast(opened: OpenStudy) -> tuple[StudyData, dict[View, Array]]:
    """Return the study's images, then its contrast images, without pixels, and the features of the views of `robust`.

    Origins stand in place of sources.
    """
    study, protocol, views = opened.data, opened.study.protocol, opened.profile.robust.views
    images = load_view_images(opened.manifest, protocol, opened.profile.model.input_size, views)
    contrast = np.flatnonzero(images.labels == CONTRAST)
    table = opened.manifest.table(["role", "image_id", "group_id", "source_path"])
    facts = table.filter(pc.equal(table["role"], "contrast"))

    def joined(of_study: Array, column: str) -> Array:
        return np.concatenate([of_study, np.array(facts[column].to_pylist(), of_study.dtype.type)])

    features: dict[View, Array] = {}
    kept = np.arange(len(images.labels) - len(contrast)) if opened.rows is None else opened.rows
    for place, view in enumerate(views):
        rows = contrast if view == "whole" else np.append(kept, contrast)
        parts = [whole_image_features(opened)] if view == "whole" else []
        if len(rows):
            parts.append(image_features(images.images[rows, place], opened, f"{FEATURES}, {view} of robust"))
        features[view] = np.concatenate(parts)
    data = StudyData(
        images=np.zeros((0, 1, 1), np.uint8),
        labels=np.append(study.labels, images.labels[contrast]),
        folds=np.append(study.folds, images.folds[contrast]),
        image_ids=joined(study.image_ids, "image_id"),
        group_ids=joined(study.group_ids, "group_id"),
        sources=np.append(opened.origins, images.origins[contrast]),
        source_paths=joined(study.source_paths, "source_path"),
    )
    return data, features


def _without_each_hospital(
    opened: OpenStudy,
    data: StudyData,
    can_fit: Callable[[Array], bool],
    score: Callable[[Array, Array], Array],
    of_what: str = "",
) -> pa.Table:
    """Return the predictions without each origin, by a classifier for each part of the folds that is held out.

    `can_fit` is true of rows that a classifier can be fitted to; an origin needs them for every part. `score` returns
    probabilities of rows (its second argument) by a classifier fitted to others (its first). Contrast images are not
    scored. Raise `NotPossible` if no origin can be left out (`of_what`).
    """
    tested = data.labels != CONTRAST
    part = data.folds % min(PARTS, len(np.unique(data.folds)))

    def fits(origin: str) -> Iterator[tuple[int, Array]]:
        train = training_rows(data, origin)
        return ((held_out, train[part[train] != held_out]) for held_out in np.unique(part))

    origins = [o for o in np.unique(data.sources[tested]) if all(can_fit(fit) for _, fit in fits(o))]
    if not origins:
        raise NotPossible(
            f"Expected {POSITIVE_CLASS} from two hospitals or more, each in several folds, to leave one out{of_what}.",
            received=f"{POSITIVE_CLASS} from {len(set(data.sources[data.labels == POSITIVE]))}",
            advice=f"Add images of {POSITIVE_CLASS} from another hospital.",
        )
    tables = []
    for done, origin in enumerate(origins, 1):
        train, unseen = training_rows(data, origin), np.flatnonzero((data.sources == origin) & tested)
        for held_out, fit in fits(origin):
            rows = np.append(train[(part[train] == held_out) & tested[train]], unseen)
            names = {
                "left_out": np.full(len(rows), origin),
                "part": np.full(len(rows), held_out, "int32"),
                "origin": data.sources[rows],
            }
            tables.append(_predictions(data, score(fit, rows), rows, names))
        opened.progress.step("One hospital left out", done, len(origins))
    return pa.concat_tables(tables)


def rows_to_test(data: StudyData, source: str) -> Array:
    """Return rows of the images of `source` whose class has training images without it."""
    kept = training_rows(data, source)
    in_training = np.isin(data.labels, np.unique(data.labels[kept]))
    return np.flatnonzero((data.sources == source) & in_training)


def training_rows(data: StudyData, source: str) -> Array:
    """Return rows of the images that share neither source nor group with an image of `source`."""
    groups = np.unique(data.group_ids[data.sources == source])
    return np.flatnonzero((data.sources != source) & ~np.isin(data.group_ids, groups))


def _scores(data: StudyData, features: Array, train: Array, rows: Array) -> Array:
    """Return probabilities (n, 7) of `rows` by the whole-image classifier fitted to the rows `train`."""
    return class_probabilities(fitted(on_features, features[train], data.labels[train]), features[rows])


def _predictions(data: StudyData, probabilities: Array, rows: Array, names: Mapping[str, Any]) -> pa.Table:
    """Return `probabilities` (n, 7) of `rows` with the columns `names` and those that tell the image."""
    keys = {
        **names,
        "image_id": data.image_ids[rows],
        "group_id": data.group_ids[rows],
        "label": np.array(CLASSES)[data.labels[rows]],
    }
    return pa.table({**{k: pa.array(v) for k, v in keys.items()}, **probability_columns(probabilities)})
