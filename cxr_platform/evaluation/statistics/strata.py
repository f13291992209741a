"""Figures on external images by view, sex, age and origin, and what each of these alone reveals of the class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import SMALL
from cxr_platform.evaluation.predictions import POSITIVE, Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.measures import paired_auc
from cxr_platform.evaluation.statistics.subgroups import Members, members_by_facts
from cxr_platform.labels import POSITIVE_CLASS

SEPARATES = 0.7
"""AUC from which a variable alone is said to separate the classes."""
ALL = "all external images"
PARTS = 5
"""Parts of the patients: the meaning of a variable's values in one is taken from the others."""
FEWEST = 2 * PARTS
"""Patients with Covid19, and others, from which the AUC of a variable alone is stated: twice the parts."""


@dataclass(frozen=True)
class Stratum:
    """Covid19 figures over the images of `scope` (all external images, or an origin) whose variable `by` is `name`.

    `images` of Covid19 and `others`; `groups` of patients on the side with fewer, if both have images. `alone` is the
    AUC of the variable alone over the whole scope (`variable_auc`). It is undefined for the scope as a whole, and for
    one with few patients.
    """

    scope: str
    by: str
    name: str
    images: int
    others: int
    groups: int
    sensitivity: Interval
    specificity: Interval
    auc: Interval
    alone: Interval

    @property
    def separates(self) -> bool:
        """True if the variable alone separates Covid19 from other images, interval included if patients are few."""
        value, low = self.alone.value, self.alone.low
        if low is None and self.small:
            return False
        return value is not None and value >= SEPARATES and (low is None or low > 0.5)

    @property
    def small(self) -> bool:
        """True if there are too few patients for a conclusion."""
        return self.groups < SMALL


def external_strata(
    frame: pd.DataFrame, facts: pd.DataFrame | None, origin_of: Mapping[str, str], seed: int
) -> list[Stratum]:
    """Return the figures of all external images, then of each origin that has both Covid19 and others, by variable.

    `frame` has the rows of one strategy of the evidence part `external`; an image is scored by the mean of its rows.
    `facts` (indexed by image_id) has view, sex and age; without it the only variable is the origin.
    """
    by_image = frame.groupby("image_id", sort=True)
    first = by_image[["label", "group_id", "source"]].first()
    origin = first["source"].map(lambda source: origin_of.get(source, source)).to_numpy(object)
    variables: dict[str, Members] = {"origin": {name: origin == name for name in sorted(set(origin))}}
    if facts is not None:
        variables |= members_by_facts(facts.loc[first.index])
    images = _Images(
        by_image[list(PROBABILITY_COLUMNS)].mean().to_numpy(dtype=float),
        (first["label"] == POSITIVE_CLASS).to_numpy(),
        Bootstrap(first["group_id"].to_numpy(object), seed=seed),
    )
    scopes = {ALL: np.ones(len(first), dtype=bool)}
    if len(variables["origin"]) > 1:
        both = {name: rows for name, rows in variables["origin"].items() if len(set(images.positive[rows])) == 2}
        scopes |= both
    return [stratum for scope, rows in scopes.items() for stratum in _strata(images, scope, rows, variables)]


@dataclass(frozen=True, eq=False)
class _Images:
    """Probabilities (N, 7), whether an image is of Covid19 (N,), and the bootstrap over their groups."""

    probability: Array
    positive: Array
    bootstrap: Bootstrap

    def auc(self, scores: Array, among: Array) -> Interval:
        together = np.zeros(len(among))
        return paired_auc(scores, self.positive & among, ~self.positive & among, together, self.bootstrap)

    def groups(self, among: Array) -> tuple[int, int]:
        """Return the number of groups with Covid19, and with other images."""
        return self.bootstrap.groups_among(self.positive & among), self.bootstrap.groups_among(~self.positive & among)


def _strata(images: _Images, scope: str, rows: Array, variables: Mapping[str, Members]) -> Iterator[Stratum]:
    yield _stratum(images, (scope, "all", scope), rows, Interval(None, ratio=True))
    for by, members in variables.items():
        inside = {name: chosen & rows for name, chosen in members.items() if (chosen & rows).any()}
        if len(inside) < 2:
            continue
        alone = Interval(None, ratio=True)
        if min(images.groups(rows)) >= FEWEST:
            alone = variable_auc(list(inside.values()), images.positive, images.bootstrap)
        for name, chosen in inside.items():
            yield _stratum(images, (scope, by, name), chosen, alone)


def _stratum(images: _Images, names: tuple[str, str, str], among: Array, alone: Interval) -> Stratum:
    called = images.probability.argmax(axis=1) == POSITIVE
    positive, negative = images.positive & among, ~images.positive & among
    return Stratum(
        *names,
        images=int(positive.sum()),
        others=int(negative.sum()),
        groups=min((groups for groups in images.groups(among) if groups), default=0),
        sensitivity=images.bootstrap.rate(called, positive),
        specificity=images.bootstrap.rate(~called, negative),
        auc=images.auc(images.probability[:, POSITIVE], among),
        alone=alone,
    )


def variable_auc(members: Sequence[Array], positive: Array, bootstrap: Bootstrap) -> Interval:
    """Return the AUC, 0 to 1, of ranking images by the share of Covid19 among those with the same value of a variable.

    `members` are the images (N,) bool of each of the V values, `positive` (N,) those of Covid19. The share is that of
    other patients, of the other fifths of them, and images are ranked within their fifth: among the same images a
    variable without any meaning would always rank better than chance. Shares are computed anew in each replicate.
    """
    fifth = np.eye(PARTS)[bootstrap.position % PARTS]
    sides = [np.stack([fifth * (rows & side)[:, None] for rows in members], axis=1) for side in (positive, ~positive)]
    cells = np.stack(sides, axis=1).reshape(len(positive), -1)  # (N, 2 · V · fifths)
    shape = (-1, 2, len(members), PARTS)
    (value,) = _areas(cells.sum(axis=0).reshape(shape))
    if not np.isfinite(value):
        return Interval(None, ratio=True)
    return percentile_interval(float(value), _areas(bootstrap.totals(cells).reshape(shape)), ratio=True)


def _areas(counts: Array) -> Array:
    """Return (r,) AUCs from (r, 2, V, fifths) counts of Covid19 and other images; NaN without a pair of images."""
    ranked, pairs = np.zeros(len(counts)), np.zeros(len(counts))
    rest = counts.sum(axis=-1, keepdims=True) - counts
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = rest[:, 0].sum(axis=1) / rest.sum(axis=(1, 2))
        shares = rest[:, 0] / rest.sum(axis=1)
        shares = np.where(np.isfinite(shares), shares, whole[:, None])  # of a value that no other fifth has
        for part in range(counts.shape[-1]):
            covid, others, share = counts[:, 0, :, part], counts[:, 1, :, part], shares[:, :, part]
            above = (share[:, :, None] > share[:, None]) + (share[:, :, None] == share[:, None]) / 2
            ranked += np.einsum("rv,rw,rvw->r", covid, others, above)
            pairs += covid.sum(axis=1) * others.sum(axis=1)
        return np.asarray(ranked / pairs)
