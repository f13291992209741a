"""Intervals by bootstrap over groups: patients with all their images, duplicates and near-duplicates.

Images of one patient are alike, so that resampling images one by one would give intervals that are too narrow. Each
replicate draws as many groups as there are, with replacement, and every image counts as often as its group was drawn
(the cluster bootstrap; Field & Welsh 2007, J. R. Statist. Soc. B 69:369). Bounds are percentiles of the replicates.
Everything given the same groups and seed sees the same replicates, so differences are paired.

What such an interval does not cover: that training again gives another network, and that another hospital has other
images.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import LEVEL, REPLICATES, Interval
from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.predictions import Predictions

if TYPE_CHECKING:
    import numpy as np

    Statistic = Callable[[np.ndarray], np.ndarray]

CHUNK_CELLS = 2_000_000  # replicates × images at a time: 8 MB of weights, a few times that in a statistic
EXACT_IN_FLOAT32 = 2**22  # sums up to 2**24 are; a replicate may draw somewhat more than there is
LEAST_DEFINED = 0.5  # share of replicates in which a statistic has to be defined
NOTHING = 1e-9  # by how much rounding alone moves a figure


class Bootstrap:
    """Replicates of N images in G groups."""

    def __init__(self, groups: "np.ndarray", replicates: int = REPLICATES, seed: int = 0):
        import numpy as np

        names, self.position = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        self.groups, self.images = len(names), len(self.position)
        self.replicates, self.seed = replicates, seed

    def weights(self) -> "Iterator[np.ndarray]":
        """Chunks (r, N) float32: how often each image is drawn. Every call gives the same sequence."""
        for counts in self.group_weights():
            yield counts[:, self.position]

    def group_weights(self) -> "Iterator[np.ndarray]":
        """As `weights`, of the groups: chunks (r, G), groups in the sorted order of their names."""
        import numpy as np

        drawn = _drawn(self.groups, self.replicates, self.seed)
        step = max(1, CHUNK_CELLS // max(1, self.images))
        for start in range(0, len(drawn), step):
            yield drawn[start : start + step].astype(np.float32)

    def replicate(self, statistic: "Statistic") -> "np.ndarray":
        """(replicates, …): `statistic` maps a chunk (r, N) of weights to (r,) or (r, k) values, NaN where undefined."""
        import numpy as np

        return np.concatenate([statistic(chunk) for chunk in self.weights()])

    def rate(self, hits: "np.ndarray", among: "np.ndarray | None" = None) -> Interval:
        """Percent of True in `hits` (N,) among the images where `among` (N,) is True, `None` where there are none.

        `hits` may also be shares from 0 to 1, whose mean it gives. Where all or none hit, every replicate says so too
        and the bootstrap knows nothing; then the bounds are Clopper and Pearson's over the groups among.
        """
        hit, whole = self._sums(hits, among), self._sums(None, among)
        share = float(hit.sum() / whole.sum()) if whole.any() else None
        if share in (0.0, 1.0):
            return _all_or_none(share, int((whole > 0).sum()))
        return self._mean(100 * hit, whole)

    def difference(self, hits_a: "np.ndarray", hits_b: "np.ndarray", among: "np.ndarray | None" = None) -> Interval:
        """`rate` of a minus that of b on the same images, in percentage points, signed."""
        gap = self._sums(hits_a, among) - self._sums(hits_b, among)
        return self._mean(100 * gap, self._sums(None, among), signed=True)

    def _mean(self, part: "np.ndarray", whole: "np.ndarray", *, signed: bool = False) -> Interval:
        """Σ `part` / Σ `whole`, both (G,); one group has nothing to vary, and no bounds."""
        value = float(part.sum() / whole.sum()) if whole.any() else None
        if value is None or (whole > 0).sum() < 2:
            return Interval(value, signed=signed)
        return percentile_interval(value, self._replicate_ratio(part, whole), signed=signed)

    def totals(self, values: "np.ndarray") -> "np.ndarray":
        """(replicates, k) sums of `values` (N, k) over the images as each replicate draws them, all in one pass."""
        import numpy as np

        sums = [np.bincount(self.position, weights=column, minlength=self.groups) for column in values.T]
        return self._group_totals(np.stack(sums, axis=1))

    def _group_totals(self, sums: "np.ndarray") -> "np.ndarray":
        """As `totals`, of (G, k) sums by group. Counts of images are exact in float32, at half the work."""
        import numpy as np

        exact = np.array_equal(sums, np.rint(sums)) and np.abs(sums).sum(axis=0).max(initial=0) < EXACT_IN_FLOAT32
        sums = sums.astype(np.float32 if exact else float)
        return np.concatenate([chunk @ sums for chunk in self.group_weights()]).astype(float)

    def _sums(self, values: "np.ndarray | None", among: "np.ndarray | None") -> "np.ndarray":
        import numpy as np

        values = np.ones(self.images) if values is None else np.asarray(values, dtype=float)
        values = values if among is None else np.where(among, values, 0.0)
        return np.bincount(self.position, weights=values, minlength=self.groups)

    def _replicate_ratio(self, part: "np.ndarray", whole: "np.ndarray") -> "np.ndarray":
        import numpy as np

        sums = self._group_totals(np.stack([part, whole], axis=1))
        with np.errstate(invalid="ignore"):
            return sums[:, 0] / sums[:, 1]


def percentile_interval(
    value: float, replicates: "np.ndarray", *, ratio: bool = False, signed: bool = False
) -> Interval:
    """`value` with the percentiles of the defined `replicates` (R,).

    No bounds where fewer than half are defined, or where a figure that is not a difference never moves (an area of 1):
    a point is no interval.
    """
    import numpy as np

    defined = replicates[np.isfinite(replicates)]
    if len(defined) < max(2, LEAST_DEFINED * len(replicates)):
        return Interval(value, ratio=ratio, signed=signed)
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    if not signed and np.ptp(defined) <= NOTHING:
        return Interval(value, ratio=ratio)
    return Interval(value, float(low), float(high), ratio=ratio, signed=signed)


def rate_interval(
    hits: "np.ndarray",
    groups: "np.ndarray",
    among: "np.ndarray | None" = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """Percent of True in `hits` (N,) among the images where `among` is True; see `Bootstrap.rate`."""
    return Bootstrap(groups, replicates, seed).rate(hits, among)


def study_bootstrap(study: StudyRecord, predictions: Predictions) -> Bootstrap:
    """Replicates of all images of a study, with its profile's seed."""
    return Bootstrap(predictions.group_id, seed=study_seed(study))


def study_seed(study: StudyRecord) -> int:
    """The seed of the study's profile, with which its intervals are drawn."""
    return study.profile.seed


@lru_cache(maxsize=2)
def _drawn(groups: int, replicates: int, seed: int) -> "np.ndarray":
    """(replicates, groups) uint8: how often each group is drawn. Kept, because a report asks for it hundreds of times.

    Up to 255 groups a count cannot pass 255; with more, none comes near it, the counts having mean and variance 1.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    counts = np.zeros((replicates if groups else 0, groups), dtype=np.uint8)
    for row in counts:
        row[:] = np.bincount(random.integers(0, groups, groups), minlength=groups)
    counts.flags.writeable = False
    return counts


def _all_or_none(share: float, groups: int) -> Interval:
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(round(share * groups), groups, alpha=1 - LEVEL, method="beta")
    return Interval(100 * share, 100 * float(low), 100 * float(high))
