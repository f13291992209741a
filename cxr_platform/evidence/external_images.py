"""Predictions for external images, which are in no fold, by the network of every strategy and fold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cxr_platform.domain.predictions import probability_columns
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.fold_networks import fold_networks, predict_images
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.intake.letterbox import resize_images

KEYS = ("image_id", "source_path", "group_id", "source", "label")
TITLE = "External images"


@dataclass(frozen=True, eq=False)
class ExternalImages:
    """`facts` has the columns `KEYS`, one row per image (label null if unknown); `pixels` are (N, s, s) uint8."""

    facts: pa.Table
    pixels: Array


def external_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `external`: the predictions of `predict_external` for the manifest's external images.

    Raise `NotPossible` if there are none, `WeightsError` if a strategy needs ImageNet weights that cannot be found.
    """
    table = opened.manifest.table([*KEYS, "role"])
    is_external = np.array(table["role"].to_pylist()) == "external"
    if not is_external.any():
        raise NotPossible(
            "Expected a source that is marked external in the manifest.",
            received="none",
            advice="Mark one with cxr manifest --external SOURCE, or use a folder with cxr evaluate.",
        )
    images = ExternalImages(table.select(KEYS).filter(pa.array(is_external)), opened.manifest.pixels()[is_external])
    return {"external": predict_external(images, opened)}


def predict_external(images: ExternalImages, opened: OpenStudy) -> pa.Table:
    """Return one row per image, strategy and fold: `KEYS`, strategy, fold and probabilities.

    Images are resized like those of the study.
    """
    pixels = resize_images(images.pixels, opened.profile.model.input_size)
    parts = []
    for strategy, fold, probabilities in _predictions(pixels, opened):
        columns = {name: images.facts[name] for name in KEYS}
        columns |= {"strategy": pa.array([strategy] * len(pixels))}
        columns |= {"fold": pa.array(np.full(len(pixels), fold, "int32"))}
        parts.append(pa.table({**columns, **probability_columns(probabilities)}))
    return pa.concat_tables(parts)


def _predictions(pixels: Array, opened: OpenStudy) -> Iterator[tuple[str, int, Array]]:
    strategies, folds = opened.study.strategies, opened.study.folds
    for number, strategy in enumerate(strategies):
        for fold, network in fold_networks(opened, strategy):
            yield strategy, fold, predict_images(network, pixels, opened)
            opened.progress.step(TITLE, number * folds + fold + 1, len(strategies) * folds)
