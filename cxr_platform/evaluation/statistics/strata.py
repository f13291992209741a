"""Figures on external images by view, sex, age and origin, and what each of these alone reveals of the class."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import SMALL
from cxr_platform.evaluation.predictions import POSITIVE, Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.measures import paired_auc
from cxr_platform.evaluation.statistics.subgroups import Members, members_by_facts
from cxr_platform.labels import POSITIVE_CLASS

SEPARATES = 0.7
"""AUC from which a variable alone is said to separate the classes."""
ALL = "all external images"


@dataclass(frozen=True)
class Stratum:
    """Covid19 figures over the images of `scope` (all external images, or an origin) whose variable `by` is `name`.

    `images` of Covid19 and `others`. `alone` is the AUC of the variable alone over the whole scope: of ranking images
    by the share of Covid19 among those with the same value. It is undefined for the scope as a whole.
    """

    scope: str
    by: str
    name: str
    images: int
    others: int
    sensitivity: Interval
    specificity: Interval
    auc: Interval
    alone: Interval

    @property
    def separates(self) -> bool:
        """True if the variable alone separates Covid19 from other images."""
        value, low = self.alone.value, self.alone.low
        return value is not None and value >= SEPARATES and (low is None or low > 0.5)

    @property
    def small(self) -> bool:
        """True if there are too few images for a conclusion."""
        return self.images + self.others < SMALL


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


def _strata(images: _Images, scope: str, rows: Array, variables: Mapping[str, Members]) -> Iterator[Stratum]:
    yield _stratum(images, (scope, "all", scope), rows, Interval(None, ratio=True))
    for by, members in variables.items():
        inside = {name: chosen & rows for name, chosen in members.items() if (chosen & rows).any()}
        if len(inside) < 2:
            continue
        shares = sum(np.where(chosen, images.positive[chosen].mean(), 0.0) for chosen in inside.values())
        alone = images.auc(np.asarray(shares), rows)
        for name, chosen in inside.items():
            yield _stratum(images, (scope, by, name), chosen, alone)


def _stratum(images: _Images, names: tuple[str, str, str], among: Array, alone: Interval) -> Stratum:
    called = images.probability.argmax(axis=1) == POSITIVE
    positive, negative = images.positive & among, ~images.positive & among
    return Stratum(
        *names,
        images=int(positive.sum()),
        others=int(negative.sum()),
        sensitivity=images.bootstrap.rate(called, positive),
        specificity=images.bootstrap.rate(~called, negative),
        auc=images.auc(images.probability[:, POSITIVE], among),
        alone=alone,
    )
