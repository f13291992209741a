"""Rates of one strategy on subgroups of the study's images: by source, view, sex and age band.

Each rate is over the images of the subgroup alone, with an interval by bootstrap over their groups.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import SMALL
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.labels import CLASSES

UNKNOWN = "unknown"
AGE_BANDS: Mapping[str, tuple[float, float]] = {
    "0–17": (0, 18),
    "18–39": (18, 40),
    "40–64": (40, 65),
    "65+": (65, float("inf")),
}
"""Name → years, from the first up to and excluding the second."""
SEXES = {"M": "male", "F": "female"}
MEASURES = ("accuracy", "sensitivity", "specificity")
"""The rates of a `Subgroup`."""

Members: TypeAlias = Mapping[str, Array]
"""Name of a subgroup → (N,) bool, its images."""


@dataclass(frozen=True)
class SubgroupRate:
    """A rate in percent over `images` images, with its interval."""

    images: int
    interval: Interval

    @property
    def small(self) -> bool:
        """True if it is over too few images to support a conclusion."""
        return self.images < SMALL


@dataclass(frozen=True)
class Subgroup:
    """Rates over the images that are `name` `by` source, view, sex or age.

    `top_source` and `top_class` are the most frequent ones, with their share of the subgroup in percent. A share near
    100 means that the subgroup is largely a source or a class by another name.
    """

    by: str
    name: str
    accuracy: SubgroupRate
    sensitivity: SubgroupRate
    specificity: SubgroupRate
    top_source: tuple[str, float]
    top_class: tuple[str, float]

    @property
    def only_source(self) -> str | None:
        """The source of all its images, if there is only one."""
        return self.top_source[0] if self.top_source[1] == 100 else None

    @property
    def images(self) -> int:
        """Images of the subgroup."""
        return self.accuracy.images

    def __getitem__(self, measure: str) -> SubgroupRate:
        rate: SubgroupRate = getattr(self, measure)
        return rate


@dataclass(frozen=True)
class Recall:
    """Percentage of the images of `label` from `source` that are predicted as that class."""

    source: str
    label: str
    rate: SubgroupRate


class SubgroupRates:
    """Rates of one strategy's out-of-fold predictions over any part of the study's images."""

    def __init__(self, predictions: Predictions, strategy: str, seed: int = 0) -> None:
        self.predictions, self._bootstrap = predictions, Bootstrap(predictions.group_id, seed=seed)
        self.predicted = predictions.probability[strategy].argmax(axis=1)
        self.correct = self.predicted == predictions.label
        self.is_positive = predictions.label == POSITIVE
        self.called_positive = self.predicted == POSITIVE

    def rate(self, hits: Array, among: Array) -> SubgroupRate:
        """Return the percentage of `hits` (N,) among the images `among` (N,)."""
        return SubgroupRate(int(among.sum()), self._bootstrap.rate(hits, among))

    def overall(self) -> Subgroup:
        """Return all rates over all images."""
        return self.subgroup("all", "all images", self.predictions.fold >= 0)

    def subgroup(self, by: str, name: str, members: Array) -> Subgroup:
        """Return all rates over the images where `members` (N,) is true."""
        return Subgroup(
            by,
            name,
            accuracy=self.rate(self.correct, members),
            sensitivity=self.rate(self.called_positive, members & self.is_positive),
            specificity=self.rate(~self.called_positive, members & ~self.is_positive),
            top_source=_most_frequent(self.predictions.source[members]),
            top_class=_most_frequent([CLASSES[i] for i in self.predictions.label[members]]),
        )

    def recalls(self) -> Iterator[Recall]:
        """Yield the recall per class and source with images of it, sources by name."""
        for source in sorted(set(self.predictions.source)):
            for position, label in enumerate(CLASSES):
                images = (self.predictions.source == source) & (self.predictions.label == position)
                if images.any():
                    yield Recall(source, label, self.rate(self.correct, images))


def subgroups(rates: SubgroupRates, facts: pd.DataFrame | None) -> tuple[Subgroup, ...]:
    """Return every subgroup with images by source and, if `facts` (indexed by image_id) has them, view, sex and age.

    A property with the same value for all images is left out.
    """
    parts = {by: names for by, names in divisions(rates.predictions, facts).items() if len(names) > 1}
    return tuple(rates.subgroup(by, name, images) for by, names in parts.items() for name, images in names.items())


def divisions(predictions: Predictions, facts: pd.DataFrame | None) -> dict[str, Members]:
    """Return source, view, sex, age → the subgroups with images; views and sources by name, "unknown" last."""
    parts = {"source": _members(predictions.source, sorted(set(predictions.source)))}
    if facts is None:
        return parts
    return parts | members_by_facts(facts.loc[list(predictions.image_id)])


def members_by_facts(facts: pd.DataFrame) -> dict[str, Members]:
    """Return view, sex, age → the subgroups of the rows of `facts`; views by name, "unknown" last."""
    view = facts["view"].fillna(UNKNOWN).to_numpy(dtype=object)
    sex = facts["sex"].map(SEXES).fillna(UNKNOWN).to_numpy(dtype=object)
    return {
        "view": _members(view, [*sorted(set(view) - {UNKNOWN}), UNKNOWN]),
        "sex": _members(sex, [*SEXES.values(), UNKNOWN]),
        "age": _members(age_bands(facts["age"].to_numpy(dtype=float)), [*AGE_BANDS, UNKNOWN]),
    }


def age_bands(years: Array) -> Array:
    """Return (N,) names of `AGE_BANDS` for ages in years, "unknown" for NaN."""
    inside = [(years >= start) & (years < end) for start, end in AGE_BANDS.values()]
    return np.select(inside, list(AGE_BANDS), default=UNKNOWN).astype(object)


def lower_than_overall(overall: SubgroupRate, parts: Iterable[Subgroup]) -> list[Subgroup]:
    """Return the subgroups of enough images whose whole accuracy interval is below the accuracy on all images."""
    value = overall.interval.value
    if value is None:
        return []
    highs = ((part, part.accuracy.interval.high) for part in parts if not part.accuracy.small)
    return [part for part, high in highs if high is not None and high < value]


def _members(values: Array, names: Sequence[str]) -> Members:
    return {name: values == name for name in names if (values == name).any()}


def _most_frequent(values: Iterable[str]) -> tuple[str, float]:
    """Return the most frequent value, ties by name, and its share in percent."""
    counted = Counter(values)
    name, images = min(counted.items(), key=lambda item: (-item[1], item[0]))
    return name, 100 * images / counted.total()
