"""Confidence intervals by bootstrap over groups: patients with all their images, duplicates and near-duplicates.

Images of one patient are alike, so resampling single images would give intervals that are too narrow. Each replicate
draws G of the G groups with replacement, and weights every image by how often its group was drawn (cluster bootstrap;
Field & Welsh 2007, J. R. Statist. Soc. B 69:369). Bounds are percentiles of the replicates. The same groups and seed
always give the same replicates, so differences between strategies are paired.

The intervals do not include the variation between training runs or between hospitals.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from math import isfinite
from typing import TypeAlias

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from cxr_platform.domain.interval import LEVEL, REPLICATES, Interval
from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.predictions import Array, Predictions

Statistic: TypeAlias = Callable[[Array], Array]
"""Weights (r, N) → values (r,) or (r, k), NaN where undefined."""

CHUNK_CELLS = 2_000_000  # replicates × images at a time: 8 MB of weights, a few times that in a statistic
EXACT_IN_FLOAT32 = 2**22  # sum over the images; float32 holds integers to 2**24, and a replicate's sum may be larger
MIN_DEFINED = 0.5  # share of replicates in which a statistic has to be defined
ROUNDING = 1e-9  # replicates within this range are equal but for rounding


class Bootstrap:
    """Bootstrap replicates of N images in G groups; `position` (N,) is each image's group, in order of names."""

    def __init__(self, groups: Array, replicates: int = REPLICATES, seed: int = 0) -> None:
        names, self.position = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        self.groups, self.images = len(names), len(self.position)
        self.replicates, self.seed = replicates, seed

    def weights(self) -> Iterator[Array]:
        """Yield chunks (r, N) float32 of how often each image is drawn; the sequence is the same in every call."""
        for counts in self.group_weights():
            yield counts[:, self.position]

    def group_weights(self) -> Iterator[Array]:
        """Yield chunks (r, G) float32 of how often each group is drawn, groups sorted by name."""
        drawn = _group_counts(self.groups, self.replicates, self.seed)
        step = max(1, CHUNK_CELLS // max(1, self.images))
        for start in range(0, len(drawn), step):
            yield drawn[start : start + step].astype(np.float32)

    def replicate(self, statistic: Statistic) -> Array:
        """Return the values of `statistic` in all replicates: (replicates,) or (replicates, k)."""
        return np.concatenate([statistic(chunk) for chunk in self.weights()])

    def rate(self, hits: Array, among: Array | None = None) -> Interval:
        """Return the percentage of True in `hits` (N,) among the images where `among` (N,) is True.

        `hits` may also be shares from 0 to 1, which are averaged, and `among` weights of the images. The value is
        `None` without images. If the rate is 0 or 100 %, all replicates are equal; the bounds are then Clopper and
        Pearson's, counting each group as one trial.
        """
        hit, whole = self._group_sums(hits, among), self._group_sums(None, among)
        share = float(hit.sum() / whole.sum()) if whole.any() else None
        if share in (0.0, 1.0):
            low, high = exact_bounds(share, int((whole > 0).sum()))
            return Interval(100 * share, 100 * low, 100 * high)
        return self._ratio(100 * hit, whole)

    def difference(self, hits_a: Array, hits_b: Array, among: Array | None = None) -> Interval:
        """Return the rate of `hits_a` minus that of `hits_b` on the same images, in percentage points, signed."""
        gap = self._group_sums(hits_a, among) - self._group_sums(hits_b, among)
        return self._ratio(100 * gap, self._group_sums(None, among), signed=True)

    def groups_among(self, among: Array) -> int:
        """Return the number of groups with an image where `among` (N,) is True."""
        return len(np.unique(self.position[among]))

    def totals(self, values: Array) -> Array:
        """Return (replicates, k) sums of `values` (N, k) over the images of each replicate."""
        return self._group_totals(self.group_sums(values))

    def group_sums(self, values: Array) -> Array:
        """Return (G, k) sums of `values` (N, k) over the images of each group, groups sorted by name."""
        sums = [np.bincount(self.position, weights=column, minlength=self.groups) for column in values.T]
        return np.stack(sums, axis=1)

    def _ratio(self, part: Array, whole: Array, *, signed: bool = False) -> Interval:
        """Σ `part` / Σ `whole`, both (G,), with an interval where there are at least two groups."""
        value = float(part.sum() / whole.sum()) if whole.any() else None
        if value is None or (whole > 0).sum() < 2:
            return Interval(value, signed=signed)
        sums = self._group_totals(np.stack([part, whole], axis=1))
        with np.errstate(invalid="ignore"):
            return percentile_interval(value, sums[:, 0] / sums[:, 1], signed=signed)

    def _group_totals(self, sums: Array) -> Array:
        """Return `totals` from (G, k) sums by group; in float32 if that is exact, which takes half the time."""
        exact = np.array_equal(sums, np.rint(sums)) and np.abs(sums).sum(axis=0).max(initial=0) < EXACT_IN_FLOAT32
        sums = sums.astype(np.float32 if exact else float)
        return np.concatenate([chunk @ sums for chunk in self.group_weights()]).astype(float)

    def _group_sums(self, values: Array | None, among: Array | None) -> Array:
        """Return (G,) sums of `values` (`None`: ones) over the images of each group, times `among` (`None`: ones)."""
        values = np.ones(self.images) if values is None else np.asarray(values, dtype=float)
        values = values if among is None else np.where(among, values * among, 0.0)
        return np.bincount(self.position, weights=values, minlength=self.groups)


def exact_bounds(share: float, groups: int) -> tuple[float, float]:
    """Return Clopper and Pearson's bounds, from 0 to 1, of a `share` of 0 or 1 over `groups`, each as one trial."""
    low, high = proportion_confint(round(share * groups), groups, alpha=1 - LEVEL, method="beta")
    return float(low), float(high)


def constant_area(area: float, sides: Iterable[int]) -> Interval | None:
    """Return the interval of an area under the ROC curve that no replicate changes, and `None` for any other area.

    Of an undefined one (NaN) there is no value. An area of 0 or 1 has Clopper and Pearson's bounds, with the groups of
    the side that has fewer as trials; `sides` are the groups with positive and with negative images.
    """
    if not isfinite(area):
        return Interval(None, ratio=True)
    return Interval(area, *exact_bounds(area, min(sides)), ratio=True) if area in (0.0, 1.0) else None


def percentile_interval(value: float, replicates: Array, *, ratio: bool = False, signed: bool = False) -> Interval:
    """Return `value` with the percentiles of the defined `replicates` (R,).

    The bounds are `None` if fewer than half of the replicates are defined. They are also `None` if all replicates are
    equal, as with a ROC AUC of 1, where an interval without width would claim certainty; a difference keeps it.
    """
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < max(2, MIN_DEFINED * len(replicates)):
        return Interval(value, ratio=ratio, signed=signed)
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])  # 2.5 and 97.5
    if not signed and np.ptp(defined) <= ROUNDING:
        return Interval(value, ratio=ratio)
    return Interval(value, float(low), float(high), ratio=ratio, signed=signed)


def study_bootstrap(study: StudyRecord, predictions: Predictions) -> Bootstrap:
    """Return the bootstrap over all images of a study, seeded by its profile."""
    return Bootstrap(predictions.group_id, seed=study_seed(study))


def study_seed(study: StudyRecord) -> int:
    """Return the seed of the study's profile, which also seeds its bootstrap."""
    return study.profile.seed


@lru_cache(maxsize=2)
def _group_counts(groups: int, replicates: int, seed: int) -> Array:
    """Return (replicates, groups) uint8 of how often each group is drawn. Cached: a report needs it hundreds of times.

    uint8 is enough: a count has mean and variance 1, so none comes near 255.
    """
    random = np.random.default_rng(seed)
    counts = np.zeros((replicates if groups else 0, groups), dtype=np.uint8)
    for row in counts:
        row[:] = np.bincount(random.integers(0, groups, groups), minlength=groups)
    counts.flags.writeable = False
    return counts
