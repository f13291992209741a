"""AUC of Covid19 of each origin against the other images of each, where neither was trained on: mean and worst pair."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, constant_area, percentile_interval
from cxr_platform.evaluation.statistics.measures import RankedScores

Pair = tuple[str, str]
"""Origin of the images with Covid19, and origin of the others."""
Key = TypeVar("Key", bound=tuple[str, ...])
"""A pair, or a pair and what it was scored without."""


@dataclass(frozen=True, eq=False)
class PairScores:
    """Rows (n,) of the images of a pair, their scores (n,), and whether each has Covid19 (n,)."""

    rows: Array
    scores: Array
    positive: Array


@dataclass(frozen=True)
class UnseenOrigins:
    """Area under the ROC curve: mean of the pairs, lowest of the pairs, and each pair."""

    mean: Interval
    worst: Interval
    worst_pair: Pair
    pairs: tuple[tuple[Pair, Interval], ...]


def unseen_origins(scored: Mapping[Pair, PairScores], bootstrap: Bootstrap) -> UnseenOrigins:
    """Return the areas of at least one pair, with intervals by `bootstrap` over the patients of all images.

    The replicates of all pairs are of the same patients, as pairs share images. The origins are not drawn again: the
    intervals do not include the variation between hospitals, of which a study has a handful. The lowest of several
    areas is lower in replicates than in the data, so that the interval of the worst may lie below its value.

    `statistics.hospitals` is another measure: there one origin of a pair is left out of training.
    """
    areas, replicates = areas_of(scored, bootstrap)
    each = list(zip(scored, pair_intervals(scored, areas, replicates, bootstrap), strict=True))
    lowest = int(areas.argmin())
    return UnseenOrigins(
        percentile_interval(float(areas.mean()), replicates.mean(axis=1), ratio=True),
        percentile_interval(float(areas.min()), replicates.min(axis=1), ratio=True),
        each[lowest][0],
        tuple(each),
    )


def mean_difference(
    scored: Mapping[Pair, PairScores], reference: Mapping[Pair, PairScores], bootstrap: Bootstrap
) -> Interval:
    """Return the mean area of the pairs minus that of the same pairs in `reference`, of the same patients.

    Pairs that only one of them has are left out; without a shared pair there is no value.
    """
    shared = [pair for pair in scored if pair in reference]
    if not shared:
        return Interval(None, ratio=True, signed=True)
    ours, theirs = (areas_of({pair: each[pair] for pair in shared}, bootstrap) for each in (scored, reference))
    value, drawn = (one.mean(axis=-1) - other.mean(axis=-1) for one, other in zip(ours, theirs, strict=True))
    return percentile_interval(float(value), drawn, ratio=True, signed=True)


def areas_of(scored: Mapping[Key, PairScores], bootstrap: Bootstrap) -> tuple[Array, Array]:
    """Return the areas (pairs,) and their replicates (replicates, pairs)."""
    ranked = [(each.rows, RankedScores(each.scores, each.positive)) for each in scored.values()]

    def areas(weights: Array) -> Array:
        return np.stack([scores.areas(weights[:, rows])[:, 0] for rows, scores in ranked], axis=1)

    return areas(np.ones((1, bootstrap.images), np.float32))[0], bootstrap.replicate(areas)


def pair_intervals(
    scored: Mapping[Key, PairScores], areas: Array, replicates: Array, bootstrap: Bootstrap
) -> list[Interval]:
    """Return the area of each pair with its interval, from the results of `areas_of`; one of 0 or 1 is constant."""
    intervals = []
    for each, area, drawn in zip(scored.values(), areas.tolist(), replicates.T, strict=True):
        sides = (bootstrap.groups_among(each.rows[each.positive == side]) for side in (True, False))
        intervals.append(constant_area(area, sides) or percentile_interval(area, drawn, ratio=True))
    return intervals
