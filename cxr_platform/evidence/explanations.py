"""Heatmaps of the winner's predictions, each by the network that tests the image, and their share in the lungs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.sections.failures import confident_mistakes, confident_right
from cxr_platform.evidence.fold_networks import fold_networks
from cxr_platform.evidence.lung_regions import LungRegions, lung_regions, sides
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.explain.saliency import check_has_heatmaps, heatmaps
from cxr_platform.intake.lung_field import field_shares, image_areas
from cxr_platform.labels import CLASSES
from cxr_platform.models.frozen import chunks

IMAGES_PER_CLASS = 60
TITLE = "Heatmaps"
FINE = 4
"""Places of the lungs' mask per side of a heatmap's cell."""


@dataclass(frozen=True)
class Explained:
    """Heatmaps (n, side, side) of one fold's images, and their `rows` (n,) in the study's predictions."""

    fold: int
    rows: Array
    maps: Array


def explanations(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return tables `lung_share` (a seeded sample, up to 60 images per class) and `heatmaps` (images in the report)."""
    check_has_heatmaps(strategy_by_name(opened.winner))
    sample, shown = sampled_rows(opened, IMAGES_PER_CLASS), shown_rows(opened)
    explained = list(explain_rows(opened, opened.winner, np.union1d(sample, shown)))
    return {
        "lung_share": pa.concat_tables([_shares_table(opened, part, sample) for part in explained]),
        "heatmaps": pa.concat_tables([_maps_table(opened, part, shown) for part in explained]),
    }


def sampled_rows(opened: OpenStudy, per_class: int) -> Array:
    """Return rows of the predictions: up to `per_class`, drawn with the study's seed; fewer are among those of more."""
    rng = np.random.default_rng([opened.profile.seed, 4])
    labels = opened.predictions.label
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(len(CLASSES))]
    return np.sort(np.concatenate(drawn))


def shown_rows(opened: OpenStudy) -> Array:
    """Return rows of the predictions that the report shows: confident mistakes and confident right answers."""
    predictions, winner = opened.predictions, opened.winner
    return np.union1d(confident_mistakes(predictions, winner), confident_right(predictions, winner))


def explain_rows(opened: OpenStudy, strategy: str, rows: Array) -> Iterator[Explained]:
    """Yield heatmaps of the predicted class for `rows` of the predictions, per fold, by the network that tests it."""
    predictions, done = opened.predictions, 0
    predicted = predictions.probability[strategy].argmax(axis=1)
    for fold, network in fold_networks(opened, strategy, np.unique(predictions.fold[rows]).tolist()):
        mine = rows[predictions.fold[rows] == fold]
        images, parts = images_of(opened, mine), []
        for chunk in chunks(len(mine)):
            parts.append(heatmaps(network, images[chunk], predicted[mine[chunk]]))
            done += len(parts[-1])
            opened.progress.step(TITLE, done, len(rows))
        yield Explained(fold, mine, np.concatenate(parts))


def images_of(opened: OpenStudy, rows: Array) -> Array:
    """Return the images (n, S, S) uint8 of `rows` of the predictions, in their order."""
    place = {image_id: i for i, image_id in enumerate(opened.data.image_ids)}
    return np.asarray(opened.data.images[[place[image_id] for image_id in opened.predictions.image_id[rows]]])


def lung_shares(maps: Array, lungs: Array, widths: Array, heights: Array) -> tuple[Array, Array]:
    """Return the share (n,) of each map's heat in the lungs, and the share (n,) of the image that they cover.

    `maps` are (n, side, side), `lungs` (n, S, S) bool. The first share is NaN for a map of zeros; heat on the padding
    counts as outside.
    """
    side, size = maps.shape[1], lungs.shape[1]
    places = ((np.arange(FINE * side) + 0.5) * size / (FINE * side)).astype(int)
    fine = lungs[:, places][:, :, places]
    cells = fine.reshape(len(maps), side, FINE, side, FINE).mean(axis=(2, 4))
    heat = maps.sum(axis=(1, 2))
    inside = (maps * cells).sum(axis=(1, 2))
    share = np.divide(inside, heat, out=np.full(len(maps), np.nan), where=heat > 0)
    return share, field_shares(lungs, image_areas(widths, heights, size))


def lungs_of(opened: OpenStudy, rows: Array) -> LungRegions:
    """Return the lungs of `rows` of the predictions."""
    return lung_regions(images_of(opened, rows), *sides(opened, opened.predictions.image_id[rows]))


def _shares_table(opened: OpenStudy, part: Explained, sample: Array) -> pa.Table:
    kept = np.isin(part.rows, sample)
    rows, predictions = part.rows[kept], opened.predictions
    lungs = lungs_of(opened, rows)
    share, covered = lung_shares(part.maps[kept], lungs.masks, *sides(opened, predictions.image_id[rows]))
    predicted = predictions.probability[opened.winner][rows].argmax(axis=1)
    return pa.table(
        {
            "image_id": predictions.image_id[rows].astype(str),
            "label": np.array(CLASSES)[predictions.label[rows]],
            "predicted": np.array(CLASSES)[predicted],
            "strategy": [opened.winner] * len(rows),
            "fold": np.full(len(rows), part.fold, "int32"),
            "share": share,
            "field_share": covered,
            "lungs_found": lungs.found,
        }
    )


def _maps_table(opened: OpenStudy, part: Explained, shown: Array) -> pa.Table:
    kept = np.isin(part.rows, shown)
    rows, predictions, maps = part.rows[kept], opened.predictions, part.maps[kept]
    predicted = predictions.probability[opened.winner][rows].argmax(axis=1)
    return pa.table(
        {
            "image_id": predictions.image_id[rows].astype(str),
            "strategy": [opened.winner] * len(rows),
            "fold": np.full(len(rows), part.fold, "int32"),
            "target": np.array(CLASSES)[predicted],
            "side": np.full(len(rows), maps.shape[1], "int32"),
            "heatmap": maps_column(maps),
        }
    )


def maps_column(maps: Array) -> pa.Array:
    """Return maps (n, side, side) as a column of lists of float16, row by row."""
    return pa.array(list(maps.reshape(len(maps), -1).astype("float16")), pa.list_(pa.float16()))
