"""Feature atlas of the winner (paper, §4): ranked features of every image by the network that tests it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.fold_networks import fold_networks
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.explain.feature_ranking import (
    RankedFeature,
    best_separated_source,
    class_aucs,
    is_matched,
    penultimate,
    random_half,
    top_features,
)
from cxr_platform.explain.saliency import check_has_heatmaps, feature_heatmaps
from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.data import StudyData

FEATURES_PER_CLASS = 2
IMAGES_PER_FEATURE = 4
SHARED_IMAGES = 300
TITLE = "Feature atlas"


@dataclass(frozen=True)
class FoldFeatures:
    """Features of one fold's network.

    `features` (n, F) are of the fold's test images, `rows` (n,) of the study's data; `shared` (300, F) of the images on
    which networks are compared. `half` (n,) bool marks the images on which features are chosen; `images` and `maps` are
    the images with the highest values of each feature in `top`, and their heatmaps.
    """

    fold: int
    rows: Array
    features: Array
    shared: Array
    half: Array
    top: list[RankedFeature]
    images: list[Array]
    maps: list[Array]


def feature_atlas(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return tables `features` (per image), `atlas` (two features per class and fold) and `atlas_images` (top ones)."""
    check_has_heatmaps(strategy_by_name(opened.winner))
    opened = opened.probed
    data, parts = opened.data, []
    shared = shared_rows(data, opened.profile.seed)
    for fold, network in fold_networks(opened, opened.winner):
        parts.append(_fold_features(network, data, fold, shared, opened.profile.seed))
        opened.progress.step(TITLE, fold + 1, opened.study.folds)
    return {
        "features": pa.concat_tables([_features_table(data, part) for part in parts]),
        "atlas": _atlas_table(replace(data, sources=opened.origins), parts),
        "atlas_images": pa.concat_tables([_images_table(data, part) for part in parts]),
    }


def shared_rows(data: StudyData, seed: int) -> Array:
    """Return rows of up to `SHARED_IMAGES` images to compare the networks of all folds on, drawn with the study's seed.

    Each network was trained on most of them, which does not matter for comparing two features.
    """
    return np.sort(np.random.default_rng([seed, 5]).permutation(len(data.labels))[:SHARED_IMAGES])


def _fold_features(network: Network, data: StudyData, fold: int, shared: Array, seed: int) -> FoldFeatures:
    rows = data.rows_of_fold(fold)
    features = penultimate(network, data.images[rows])
    half = random_half(data.group_ids[rows], seed + fold)
    top = top_features(features, data.labels[rows], half, FEATURES_PER_CLASS)
    images = [rows[_strongest(features[:, r.feature], half, data.group_ids[rows])] for r in top]
    numbers = np.repeat([r.feature for r in top], [len(f) for f in images]).astype(int)
    together = feature_heatmaps(network, data.images[np.concatenate([np.zeros(0, int), *images])], numbers)
    maps = np.split(together, np.cumsum([len(f) for f in images])[:-1]) if images else []
    return FoldFeatures(fold, rows, features, penultimate(network, data.images[shared]), half, top, images, maps)


def _strongest(feature: Array, half: Array, groups: Array) -> Array:
    """Return the images with the highest values outside the choosing `half`, one per patient."""
    order = [i for i in np.argsort(-feature, kind="stable") if not half[i]]
    first = {groups[i]: i for i in reversed(order)}
    return np.array([i for i in order if first[groups[i]] == i][:IMAGES_PER_FEATURE], dtype=int)


def _features_table(data: StudyData, part: FoldFeatures) -> pa.Table:
    return pa.table(
        {
            "image_id": data.image_ids[part.rows],
            "group_id": data.group_ids[part.rows],
            "source": data.sources[part.rows],
            "label": np.array(CLASSES)[data.labels[part.rows]],
            "fold": np.full(len(part.rows), part.fold, "int32"),
            "features": pa.array(list(part.features.astype("float16")), pa.list_(pa.float16())),
        }
    )


def _atlas_table(data: StudyData, parts: list[FoldFeatures]) -> pa.Table:
    aucs = [class_aucs(part.features, data.labels[part.rows]) for part in parts]
    rows = []
    for part in parts:
        for ranked in part.top:
            matched = [
                other is part or _is_in(other, areas, part, ranked) for other, areas in zip(parts, aucs, strict=True)
            ]
            rows.append(_atlas_row(data, part, ranked, sum(matched), len(parts)))
    return pa.Table.from_pylist(rows, ATLAS_SCHEMA)


def _is_in(other: FoldFeatures, areas: Mapping[int, Array], part: FoldFeatures, ranked: RankedFeature) -> bool:
    """Return True if the network of `other` has the feature of `part`.

    False for a fold without an image of the class, which is possible under the paper's protocol.
    """
    if ranked.label not in areas:
        return False
    return is_matched(part.shared[:, ranked.feature], other.shared, ranked.auc_held, areas[ranked.label])


def _atlas_row(
    data: StudyData, part: FoldFeatures, ranked: RankedFeature, matched: int, folds: int
) -> dict[str, object]:
    held = ~part.half
    source = best_separated_source(part.features[held, ranked.feature], data.sources[part.rows[held]].tolist())
    return {
        "fold": part.fold,
        "feature": ranked.feature,
        "label": CLASSES[ranked.label],
        "auc_chosen": ranked.auc_chosen,
        "auc_held": ranked.auc_held,
        "matched_folds": matched,
        "folds": folds,
        "images_held": int(held.sum()),
        "source": source[0] if source else None,
        "auc_source": source[1] if source else None,
    }


def _images_table(data: StudyData, part: FoldFeatures) -> pa.Table:
    rows = []
    for ranked, images, maps in zip(part.top, part.images, part.maps, strict=True):
        for rank, (row, heat) in enumerate(zip(images, maps, strict=True)):
            position = int(np.flatnonzero(part.rows == row)[0])
            rows.append(
                {
                    "fold": part.fold,
                    "feature": ranked.feature,
                    "rank": rank,
                    "image_id": str(data.image_ids[row]),
                    "value": float(part.features[position, ranked.feature]),
                    "side": heat.shape[0],
                    "heatmap": heat.ravel().astype("float16"),
                }
            )
    return pa.Table.from_pylist(rows, IMAGES_SCHEMA)


ATLAS_SCHEMA = pa.schema(
    [
        ("fold", pa.int32()),
        ("feature", pa.int32()),
        ("label", pa.string()),
        ("auc_chosen", pa.float64()),
        ("auc_held", pa.float64()),
        ("matched_folds", pa.int32()),
        ("folds", pa.int32()),
        ("images_held", pa.int32()),
        ("source", pa.string()),
        ("auc_source", pa.float64()),
    ]
)
IMAGES_SCHEMA = pa.schema(
    [
        ("fold", pa.int32()),
        ("feature", pa.int32()),
        ("rank", pa.int32()),
        ("image_id", pa.string()),
        ("value", pa.float32()),
        ("side", pa.int32()),
        ("heatmap", pa.list_(pa.float16())),
    ]
)
