"""Predictions for external and outside images, which are in no fold, by the network of every strategy and fold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cxr_platform.domain.predictions import INDETERMINATE, probability_columns
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.fold_networks import fold_networks, images_for, letterboxed_images
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.intake.candidate import Role
from cxr_platform.training.robust_trial import indeterminate_images
from cxr_platform.training.trial import predict_images

KEYS = ("image_id", "source_path", "group_id", "source", "label")
OUTSIDE_KEYS = (*KEYS, "finding")
SIDES = ("width", "height")
TITLE, OUTSIDE_TITLE = "External images", "Images outside the classes"


@dataclass(frozen=True, eq=False)
class ExternalImages:
    """`facts` has the columns `KEYS` and `SIDES` at least, one row per image (label null if unknown).

    `pixels` are letterboxed, (N, s, s) uint8; `SIDES` are those of the files.
    """

    facts: pa.Table
    pixels: Array


def external_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `external`: the predictions of `predict_external` for the manifest's external images.

    Raise `NotPossible` if there are none, `WeightsError` if a strategy needs ImageNet weights that cannot be found.
    """
    advice = "Mark one with cxr manifest --external SOURCE, or use a folder with cxr evaluate."
    return {"external": predict_external(_images_of(opened, "external", KEYS, advice), opened)}


def outside_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `outside`: the predictions for the manifest's images of none of the classes, with their `finding`.

    Raises as `external_predictions` does.
    """
    advice = "Mark one with cxr manifest --outside SOURCE; any folder of images with another finding will do."
    images = _images_of(opened, "outside", OUTSIDE_KEYS, advice)
    return {"outside": predict_external(images, opened, OUTSIDE_KEYS, OUTSIDE_TITLE)}


def _images_of(opened: OpenStudy, role: Role, keys: Sequence[str], advice: str) -> ExternalImages:
    table = opened.manifest.table([*keys, *SIDES, "role"])
    is_meant = np.array(table["role"].to_pylist()) == role
    if not is_meant.any():
        raise NotPossible(f"Expected a source that is marked {role} in the manifest.", received="none", advice=advice)
    return ExternalImages(table.filter(pa.array(is_meant)), letterboxed_images(opened, is_meant, f"{role} images"))


def predict_external(
    images: ExternalImages, opened: OpenStudy, keys: Sequence[str] = KEYS, title: str = TITLE
) -> pa.Table:
    """Return one row per image, strategy and fold: `keys`, strategy, fold and probabilities.

    If a strategy has a gate, the column `indeterminate` has its answers, and null of the others. Images are resized
    like those of the study. `title` is that of the progress.
    """
    count, parts = len(images.pixels), []
    for strategy, fold, probabilities, indeterminate in _predictions(images, opened, title):
        columns = {name: images.facts[name] for name in keys}
        columns |= {"strategy": pa.array([strategy] * count)}
        columns |= {"fold": pa.array(np.full(count, fold, "int32"))}
        columns |= probability_columns(probabilities)
        parts.append(pa.table(columns if indeterminate is None else {**columns, INDETERMINATE: indeterminate}))
    return pa.concat_tables(parts, promote_options="default")


def _predictions(
    images: ExternalImages, opened: OpenStudy, title: str
) -> Iterator[tuple[str, int, Array, Array | None]]:
    strategies, folds = opened.study.strategies, opened.study.folds
    sides = [images.facts[side].to_numpy() for side in SIDES]
    for number, strategy in enumerate(strategies):
        shown = images_for(opened, strategy, images.pixels, *sides)
        for fold, network in fold_networks(opened, strategy):
            yield strategy, fold, predict_images(network, shown), indeterminate_images(network, shown)
            opened.progress.step(title, number * folds + fold + 1, len(strategies) * folds)
