"""The strategies of a study at hospitals that their networks never saw: studies with the protocol `origins`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import HospitalPair
from cxr_platform.evaluation.predictions import POSITIVE, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.hospitals import SCORE, hospital_pairs, rows_of_pairs
from cxr_platform.evaluation.statistics.unseen_origins import PairScores, areas_of, mean_difference
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

Scored = dict[tuple[str, str, str], PairScores]
"""Origin left out, origin of the Covid19 images, origin of the others → scores of the images of both."""


@dataclass(frozen=True)
class UnseenHospitals:
    """One strategy's networks, each trained without an origin, on the images of that origin.

    `pairs` of origins have `mean` as their mean AUC, which differs from that of the strategy compared with by
    `difference`. Sensitivity and specificity of Covid19 at the most probable class are in percent; so is `accuracy`, of
    the `images` whose class other origins have, and `change` in points: that accuracy minus the one of the same images
    in the folds of the study itself.
    """

    strategy: str
    pairs: tuple[HospitalPair, ...]
    mean: Interval
    difference: Interval
    sensitivity: Interval
    specificity: Interval
    accuracy: Interval
    change: Interval
    images: int


def unseen_hospitals(
    frame: pd.DataFrame,
    own: Predictions,
    origin_counts: Mapping[str, Mapping[str, int]],
    compared_with: str,
    seed: int,
) -> dict[str, UnseenHospitals]:
    """Return the figures of each strategy of `frame` (`predictions.load_origin_predictions`) by its name.

    `own` has the predictions of the study itself, `origin_counts` its images by class and origin. `difference` is to
    the strategy `compared_with`, and undefined for itself or if it is not in `frame`. Intervals are over patients: a
    strategy has one network for each origin, and the origins are not drawn again.
    """
    frame = frame.assign(part=frame["fold"]).sort_values(["fold", "image_id"], kind="stable")
    by_strategy = {str(name): rows.reset_index(drop=True) for name, rows in frame.groupby("strategy", sort=False)}
    reference = _scored(by_strategy[compared_with]) if compared_with in by_strategy else {}
    found = {}
    for name, rows in by_strategy.items():
        scored, bootstrap = _scored(rows), Bootstrap(_images(rows)["group_id"].to_numpy(object), seed=seed)
        areas, replicates = areas_of(scored, bootstrap)
        found[name] = UnseenHospitals(
            name,
            hospital_pairs(rows, seed, name),
            percentile_interval(float(areas.mean()), replicates.mean(axis=1), ratio=True),
            mean_difference(scored, {} if name == compared_with else reference, bootstrap),
            **_rates(name, rows[rows["origin"] == rows["left_out"]], own, origin_counts, seed),
        )
    return found


def _images(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each image, sorted by its id."""
    return rows.drop_duplicates("image_id").sort_values("image_id")


def _scored(rows: pd.DataFrame) -> Scored:
    """Return the scores of each pair; rows are positions in `_images`, which one bootstrap draws for all pairs."""
    position = np.searchsorted(_images(rows)["image_id"].to_numpy(str), rows["image_id"].to_numpy(str))
    scores, positive = rows[SCORE].to_numpy(float), (rows["label"] == POSITIVE_CLASS).to_numpy()
    return {
        (left_out, first, second): PairScores(position[members], scores[members], positive[members])
        for left_out, first, second, members in rows_of_pairs(rows)
    }


def _rates(
    strategy: str, unseen: pd.DataFrame, own: Predictions, origin_counts: Mapping[str, Mapping[str, int]], seed: int
) -> dict[str, Any]:
    """Return the fields of `UnseenHospitals` on the images left out, each of which is in `unseen` once."""
    label = unseen["label"].map(CLASSES.index).to_numpy(int)
    predicted = unseen[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1)
    elsewhere = np.array(
        [
            any(count for origin, count in origin_counts[name].items() if origin != here)
            for name, here in zip(unseen["label"], unseen["origin"], strict=True)
        ]
    )
    bootstrap, covid = Bootstrap(unseen["group_id"].to_numpy(object), seed=seed), label == POSITIVE
    change = Interval(None, signed=True)
    if strategy in own.probability:
        rows = np.searchsorted(own.image_id.astype(str), unseen["image_id"].to_numpy(str))
        right = own.probability[strategy].argmax(axis=1) == own.label
        change = bootstrap.difference(predicted == label, right[rows], elsewhere)
    return {
        "sensitivity": bootstrap.rate(predicted == POSITIVE, covid),
        "specificity": bootstrap.rate(predicted != POSITIVE, ~covid),
        "accuracy": bootstrap.rate(predicted == label, elsewhere),
        "change": change,
        "images": int(elsewhere.sum()),
    }
