"""AUC of Covid19 of each origin against the other images of each origin, with one of the two left out of training.

`statistics.unseen_origins` is the stricter measure of `cxr benchmark robust`, for which both are left out.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import norm

from cxr_platform.domain.interval import LEVEL, Interval
from cxr_platform.evaluation.findings import HospitalPair
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.comparison import holm
from cxr_platform.evaluation.statistics.measures import paired_auc
from cxr_platform.labels import POSITIVE_CLASS

SCORE = f"p_{POSITIVE_CLASS}"


def hospital_pairs(frame: pd.DataFrame, seed: int, *, robust: bool = False) -> tuple[HospitalPair, ...]:
    """Return every pair of origins of which one was left out; `frame` has the columns of the evidence part.

    `robust` says that heads of `robust` made its predictions.
    """
    pairs = [pair for origin, rows in frame.groupby("left_out") for pair in _pairs(str(origin), rows, seed)]
    corrected = holm(np.array([p_reversed(pair.auc) for pair in pairs]))
    return tuple(replace(pair, p_reversed=float(p), robust=robust) for pair, p in zip(pairs, corrected, strict=True))


def p_reversed(auc: Interval) -> float:
    """Return the two-sided p value of an AUC below chance, from its distance to 0.5 in widths of its upper half.

    1 for one that is not below, or has no interval. A percentile itself would need more replicates than there are: of
    fifty pairs the lowest is tested at 0.001.
    """
    if auc.value is None or auc.high is None or auc.value >= 0.5:
        return 1.0
    error = (auc.high - auc.value) / norm.ppf((1 + LEVEL) / 2)
    return float(2 * norm.sf((0.5 - auc.value) / error))


def _pairs(left_out: str, rows: pd.DataFrame, seed: int) -> Iterator[HospitalPair]:
    origins, positive = rows["origin"].to_numpy(object), (rows["label"] == POSITIVE_CLASS).to_numpy()
    group, image, part = (rows[name].to_numpy(object) for name in ("group_id", "image_id", "part"))
    scores = rows[SCORE].to_numpy(dtype=float)
    for origin in sorted(set(origins)):
        for first, second in dict.fromkeys([(left_out, origin), (origin, left_out)]):
            members = (positive & (origins == first)) | (~positive & (origins == second))
            sides = [members & positive, members & ~positive]
            if not all(side.any() for side in sides):
                continue
            bootstrap, own = Bootstrap(group[members], seed=seed), positive[members]
            yield HospitalPair(
                first,
                second,
                left_out,
                images=len(set(image[sides[0]])),
                others=len(set(image[sides[1]])),
                groups=min(len(set(group[side])) for side in sides),
                # Scores of different classifiers are not on one scale: images are ranked within each.
                auc=paired_auc(scores[members], own, ~own, part[members], bootstrap),
            )
