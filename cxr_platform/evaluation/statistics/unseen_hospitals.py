"""The strategies of a study at hospitals that their networks never saw: studies with the protocol `origins`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import HospitalPair
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.hospitals import RankedPairs, large_pairs, ranked_pairs
from cxr_platform.labels import CLASSES


@dataclass(frozen=True)
class UnseenHospitals:
    """One strategy's networks, each trained without an origin, on the images of that origin.

    `pairs` of origins have `mean` as their mean AUC, which differs from that of the strategy compared with by
    `difference`; pairs that are `small` count for neither, unless all are. Sensitivity and specificity of Covid19 at
    the most probable class are in percent; so is `accuracy`, of the `images` whose class other origins have, and
    `change` in points: that accuracy minus the one of the same images in the folds of the study itself. `by_origin` has
    that accuracy for each origin left out, undefined where no other origin has any of its classes.
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
    by_origin: Mapping[str, Interval]


def unseen_hospitals(
    frame: pd.DataFrame,
    own: Predictions,
    origin_counts: Mapping[str, Mapping[str, int]],
    compared_with: str,
    seed: int,
) -> dict[str, UnseenHospitals]:
    """Return the figures of each strategy of `frame` (`predictions.load_origin_predictions`) by its name.

    `own` has the predictions of the study itself, `origin_counts` its images by class and origin. `difference` is to
    the strategy `compared_with`, and undefined for itself or if it is not in `frame`. Intervals are over patients, of
    whom every strategy's replicates draw the same: a strategy has one network for each origin, and the origins are not
    drawn again.
    """
    rows_of = dict(iter(frame.groupby("strategy", sort=False)))
    reference = None
    if compared_with in rows_of:
        reference = ranked_pairs(_in_order(rows_of[compared_with]), seed, compared_with)
    found = {}
    for name, unordered in rows_of.items():
        rows = _in_order(unordered)
        ranked = reference if reference and name == compared_with else ranked_pairs(rows, seed, name)
        mean, difference = Interval(None, ratio=True), Interval(None, ratio=True, signed=True)
        if ranked is not None:
            value, drawn = _mean(ranked)
            mean = percentile_interval(value, drawn, ratio=True)
            if reference is not None and reference is not ranked:
                of_reference, drawn_of_reference = _mean(reference)
                gap, gaps = value - of_reference, drawn - drawn_of_reference
                difference = percentile_interval(gap, gaps, ratio=True, signed=True)
        unseen = rows[rows["origin"] == rows["left_out"]]
        rates = _rates(name, unseen, own, origin_counts, seed)
        found[name] = UnseenHospitals(name, ranked.pairs if ranked else (), mean, difference, **rates)
    return found


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one strategy in the order of folds and images, which is the same for all strategies."""
    return rows.assign(part=rows["fold"]).sort_values(["fold", "image_id"]).reset_index(drop=True)


def _mean(ranked: RankedPairs[HospitalPair]) -> tuple[float, Array]:
    """Return the mean area of the pairs that are not small, or of all if all are, and its replicates (R,)."""
    return ranked.mean(large_pairs(ranked.pairs))


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
        "by_origin": {
            str(origin): bootstrap.rate(predicted == label, elsewhere & (unseen["left_out"] == origin).to_numpy())
            for origin in sorted(unseen["left_out"].unique())
        },
    }
