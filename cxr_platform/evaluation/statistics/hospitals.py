"""AUC of Covid19 of each origin against the other images of each origin, with one of the two left out of training.

`statistics.unseen_origins` is the stricter measure of `cxr benchmark robust`, for which both are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import pandas as pd
from scipy.stats import norm

from cxr_platform.domain.interval import LEVEL, Interval
from cxr_platform.evaluation.findings import HospitalPair, RankedPair
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.comparison import holm
from cxr_platform.evaluation.statistics.measures import ScoresInParts
from cxr_platform.evaluation.statistics.unseen_origins import PairScores, pair_intervals
from cxr_platform.labels import POSITIVE_CLASS

SCORE = f"p_{POSITIVE_CLASS}"
Ranked = TypeVar("Ranked", bound=RankedPair)


@dataclass(frozen=True, eq=False)
class PairRows:
    """Origins of the Covid19 images and of the others, the one left out, and the row numbers of all images."""

    positive: str
    negative: str
    left_out: str
    rows: Array


@dataclass(frozen=True, eq=False)
class RankedPairs(Generic[Ranked]):
    """Pairs of origins with their areas in replicates (R, pairs), all of the same draws of patients."""

    pairs: tuple[Ranked, ...]
    replicates: Array

    def mean(self, counted: Sequence[bool] | None = None) -> tuple[float, Array]:
        """Return the mean area of the pairs that are `counted` (`None`: all), and its replicates (R,).

        A pair without an area is left out. Of a replicate without an image on a side of a pair, the mean is that of the
        other pairs.
        """
        values = np.array([pair.auc.value for pair in self.pairs], float)
        kept = np.isfinite(values) & (True if counted is None else np.array(counted))
        values, drawn = values[kept], self.replicates[:, kept]
        with np.errstate(invalid="ignore"):
            return float(values.mean()), np.asarray(np.nansum(drawn, axis=1) / np.isfinite(drawn).sum(axis=1))


def large_pairs(pairs: Sequence[RankedPair], among: Sequence[bool] | None = None) -> list[bool]:
    """Return which pairs have enough patients for a conclusion, or which are `among` (`None`: all) if none has."""
    among = [True] * len(pairs) if among is None else among
    large = [one and not pair.small for pair, one in zip(pairs, among, strict=True)]
    return large if any(large) else list(among)


def ranked_pairs(frame: pd.DataFrame, seed: int, strategy: str = "") -> RankedPairs[HospitalPair] | None:
    """Return every pair of origins of which one was left out; `None` without a pair.

    `frame` has the columns of the evidence part. `strategy` made its predictions, or a simple classifier if it is
    empty. Intervals are by bootstrap over the patients of all images.
    """
    members = list(pairs_of(frame))
    if not members:
        return None
    images = frame.drop_duplicates("image_id").sort_values("image_id")
    position = np.searchsorted(images["image_id"].to_numpy(str), frame["image_id"].to_numpy(str))
    scores, positive = frame[SCORE].to_numpy(float), (frame["label"] == POSITIVE_CLASS).to_numpy()
    scored = {
        (pair.left_out, pair.positive, pair.negative): PairScores(
            position[pair.rows], scores[pair.rows], positive[pair.rows]
        )
        for pair in members
    }
    in_parts = [
        ScoresInParts(each.scores, _parts(frame.iloc[pair.rows]))
        for pair, each in zip(members, scored.values(), strict=True)
    ]

    def areas(weights: Array) -> Array:
        drawn = zip(scored.values(), in_parts, strict=True)
        return np.stack([parts.areas(weights[:, each.rows]) for each, parts in drawn], axis=1)

    bootstrap = Bootstrap(images["group_id"].to_numpy(object), seed=seed)
    values, replicates = areas(np.ones((1, len(images)), np.float32))[0], bootstrap.replicate(areas)
    intervals = pair_intervals(scored, values, replicates, bootstrap)
    pairs = [hospital_pair(frame, pair, auc, strategy) for pair, auc in zip(members, intervals, strict=True)]
    return RankedPairs(with_corrected_p(pairs), replicates)


def with_corrected_p(pairs: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """Return the pairs with their p values after Holm's correction over all of them."""
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


def pairs_of(frame: pd.DataFrame) -> Iterator[PairRows]:
    """Yield every pair of origins of which one was left out, and that has images on both sides."""
    origins, left_out = frame["origin"].to_numpy(object), frame["left_out"].to_numpy(object)
    positive = (frame["label"] == POSITIVE_CLASS).to_numpy()
    for missing in sorted(set(left_out)):
        here = left_out == missing
        for origin in sorted(set(origins[here])):
            for first, second in dict.fromkeys([(missing, origin), (origin, missing)]):
                sides = (here & positive & (origins == first), here & ~positive & (origins == second))
                if all(side.any() for side in sides):
                    yield PairRows(str(first), str(second), str(missing), np.flatnonzero(sides[0] | sides[1]))


def hospital_pair(frame: pd.DataFrame, pair: PairRows, auc: Interval, strategy: str) -> HospitalPair:
    """Return the pair with its numbers of images and patients."""
    members = frame.iloc[pair.rows]
    sides = [side for _, side in members.groupby(members["label"] == POSITIVE_CLASS)]
    return HospitalPair(
        positive=pair.positive,
        negative=pair.negative,
        left_out=pair.left_out,
        images=sides[1]["image_id"].nunique(),
        others=sides[0]["image_id"].nunique(),
        groups=min(side["group_id"].nunique() for side in sides),
        auc=auc,
        strategy=strategy,
    )


def _parts(members: pd.DataFrame) -> list[tuple[Array, Array]]:
    """Return the positive and the negative images of each classifier, whose scores are not on one scale."""
    positive, part = (members["label"] == POSITIVE_CLASS).to_numpy(), members["part"].to_numpy(object)
    return [(positive & (part == each), ~positive & (part == each)) for each in np.unique(part)]
