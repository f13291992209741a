"""Predictions for external images, which are in no fold, by the network of every strategy and fold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cxr_platform.domain.predictions import probability_columns
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.fold_networks import fold_networks, images_for
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.training.trial import predict_images

KEYS = ("image_id", "source_path", "group_id", "source", "label")
SIDES = ("width", "height")
TITLE = "External images"


@dataclass(frozen=True, eq=False)
class ExternalImages:
    """`facts` has the columns `KEYS` and `SIDES`, one row per image (label null if unknown).

    `pixels` are letterboxed, (N, s, s) uint8; `SIDES` are those of the files.
    """

    facts: pa.Table
    pixels: Array


def external_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `external`: the predictions of `predict_external` for the manifest's external images.

    Raise `NotPossible` if there are none, `WeightsError` if a strategy needs ImageNet weights that cannot be found.
    """
    table = opened.manifest.table([*KEYS, *SIDES, "role"])
    is_external = np.array(table["role"].to_pylist()) == "external"
    if not is_external.any():
        raise NotPossible(
            "Expected a source that is marked external in the manifest.",
            received="none",
            advice="Mark one with cxr manifest --external SOURCE, or use a folder with cxr evaluate.",
        )
    facts = table.select([*KEYS, *SIDES]).filter(pa.array(is_external))
    images = ExternalImages(facts, opened.manifest.pixels(is_external))
    return {"external": predict_external(images, opened)}


def predict_external(images: ExternalImages, opened: OpenStudy) -> pa.Table:
    """Return one row per image, strategy and fold: `KEYS`, strategy, fold and probabilities.

    Images are resized like those of the study.
    """
    count, parts = len(images.pixels), []
    for strategy, fold, probabilities in _predictions(images, opened):
        columns = {name: images.facts[name] for name in KEYS}
        columns |= {"strategy": pa.array([strategy] * count)}
        columns |= {"fold": pa.array(np.full(count, fold, "int32"))}
        parts.append(pa.table({**columns, **probability_columns(probabilities)}))
    return pa.concat_tables(parts)


def _predictions(images: ExternalImages, opened: OpenStudy) -> Iterator[tuple[str, int, Array]]:
    strategies, folds = opened.study.strategies, opened.study.folds
    sides = [images.facts[side].to_numpy() for side in SIDES]
    for number, strategy in enumerate(strategies):
        shown = images_for(opened, strategy, images.pixels, *sides)
        for fold, network in fold_networks(opened, strategy):
            yield strategy, fold, predict_images(network, shown)
            opened.progress.step(TITLE, number * folds + fold + 1, len(strategies) * folds)
