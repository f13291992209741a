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
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.comparison import holm
from cxr_platform.evaluation.statistics.measures import paired_auc
from cxr_platform.labels import POSITIVE_CLASS

SCORE = f"p_{POSITIVE_CLASS}"


def hospital_pairs(frame: pd.DataFrame, seed: int, strategy: str = "") -> tuple[HospitalPair, ...]:
    """Return every pair of origins of which one was left out; `frame` has the columns of the evidence part.

    `strategy` made its predictions, or a simple classifier if it is empty.
    """
    pairs = [_pair(pair, frame, seed, strategy) for pair in rows_of_pairs(frame)]
    corrected = holm(np.array([p_reversed(pair.auc) for pair in pairs]))
    return tuple(replace(pair, p_reversed=float(p)) for pair, p in zip(pairs, corrected, strict=True))


def p_reversed(auc: Interval) -> float:
    """Return the two-sided p value of an AUC below chance, from its distance to 0.5 in widths of its upper half.

    1 for one that is not below, or has no interval. A percentile itself would need more replicates than there are: of
    fifty pairs the lowest is tested at 0.001.
    """
    if auc.value is None or auc.high is None or auc.value >= 0.5:
        return 1.0
    error = (auc.high - auc.value) / norm.ppf((1 + LEVEL) / 2)
    return float(2 * norm.sf((0.5 - auc.value) / error))


def rows_of_pairs(frame: pd.DataFrame) -> Iterator[tuple[str, str, str, Array]]:
    """Yield origin left out, origin of the Covid19 images, origin of the others, and the row numbers of a pair.

    Row numbers are those of `frame`; a pair with one side only is left out.
    """
    origins, left_out = frame["origin"].to_numpy(object), frame["left_out"].to_numpy(object)
    positive = (frame["label"] == POSITIVE_CLASS).to_numpy()
    for missing in sorted(set(left_out)):
        here = left_out == missing
        for origin in sorted(set(origins[here])):
            for first, second in dict.fromkeys([(missing, origin), (origin, missing)]):
                sides = (here & positive & (origins == first), here & ~positive & (origins == second))
                if all(side.any() for side in sides):
                    yield str(missing), str(first), str(second), np.flatnonzero(sides[0] | sides[1])


def _pair(pair: tuple[str, str, str, Array], frame: pd.DataFrame, seed: int, strategy: str) -> HospitalPair:
    left_out, first, second, rows = pair
    members = frame.iloc[rows]
    positive = (members["label"] == POSITIVE_CLASS).to_numpy()
    group, part = members["group_id"].to_numpy(object), members["part"].to_numpy(object)
    sides = (members[positive], members[~positive])
    return HospitalPair(
        first,
        second,
        left_out,
        images=sides[0]["image_id"].nunique(),
        others=sides[1]["image_id"].nunique(),
        groups=min(side["group_id"].nunique() for side in sides),
        # Scores of different classifiers are not on one scale: images are ranked within each.
        auc=paired_auc(members[SCORE].to_numpy(float), positive, ~positive, part, Bootstrap(group, seed=seed)),
        strategy=strategy,
    )
