"""How one strategy does on parts of the study's images: by source, view, sex and age band.

Each rate is over the images of the subgroup alone, with an interval by bootstrap over their groups.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SMALL = 20
"""A rate over fewer images than this is shown in grey: one image more or less moves it by five points and more."""

UNKNOWN = "unknown"
AGE_BANDS: Mapping[str, tuple[float, float]] = {
    "0–17": (0, 18),
    "18–39": (18, 40),
    "40–64": (40, 65),
    "65+": (65, float("inf")),
}
"""Name → years, from the first up to but without the second."""

SEXES = {"M": "male", "F": "female"}
MEASURES = ("accuracy", "sensitivity", "specificity")

Members = Mapping[str, "np.ndarray"]
"""Name of a subgroup → (N,) whether an image belongs to it."""


@dataclass(frozen=True)
class Rate:
    """A rate in percent over `images` images, with its interval."""

    images: int
    interval: Interval

    @property
    def small(self) -> bool:
        """Whether it is over too few images to say anything."""
        return self.images < SMALL


@dataclass(frozen=True)
class Subgroup:
    """The images that are `name` `by` source, view, sex or age, and the rates over them.

    `top_source` and `top_class` are the most frequent ones with their share of the subgroup in percent: how far the
    subgroup is a source or a class under another name, and what always answering that class would reach in it.
    """

    by: str
    name: str
    accuracy: Rate
    sensitivity: Rate
    specificity: Rate
    top_source: tuple[str, float]
    top_class: tuple[str, float]

    @property
    def only_source(self) -> str | None:
        """The source of all its images, where there is only one."""
        return self.top_source[0] if self.top_source[1] == 100 else None

    @property
    def images(self) -> int:
        """Images of the subgroup."""
        return self.accuracy.images

    def __getitem__(self, measure: str) -> Rate:
        rate: Rate = getattr(self, measure)
        return rate


@dataclass(frozen=True)
class Recall:
    """Share of the images of `label` from `source` that were recognised as that class."""

    source: str
    label: str
    rate: Rate


class SubgroupRates:
    """One strategy's predictions of the study's images, and the rates over any part of them."""

    def __init__(self, predictions: Predictions, strategy: str, seed: int = 0) -> None:
        self.predictions, self._bootstrap = predictions, Bootstrap(predictions.group_id, seed=seed)
        self.predicted = predictions.probability[strategy].argmax(axis=1)
        self.right = self.predicted == predictions.label
        self.is_positive = predictions.label == CLASSES.index(POSITIVE_CLASS)
        self.said_positive = self.predicted == CLASSES.index(POSITIVE_CLASS)

    def rate(self, hits: "np.ndarray", among: "np.ndarray") -> Rate:
        """Percent of `hits` (N,) among the images `among` (N,); all groups are resampled, as for every other figure."""
        return Rate(int(among.sum()), self._bootstrap.rate(hits, among))

    def overall(self) -> Subgroup:
        """All rates over all images."""
        return self.subgroup("all", "all images", self.predictions.fold >= 0)

    def mixed(self) -> Subgroup | None:
        """All rates over the images of the sources that have Covid19 and other images; `None` where these are all images
        or none. Within such a source its looks do not give Covid19 away."""
        import numpy as np

        source = self.predictions.source
        both = set(source[self.is_positive]) & set(source[~self.is_positive])
        members = np.isin(source, sorted(both))
        return None if members.all() or not members.any() else self.subgroup("source", "mixed", members)

    def specificity_within(self) -> tuple[Rate, Rate] | None:
        """Specificity over the other images of the sources that have Covid19 too, and over images of the same classes
        from other sources; `None` where either is without images."""
        import numpy as np

        source, label = self.predictions.source, self.predictions.label
        both = np.isin(source, sorted(set(source[self.is_positive]) & set(source[~self.is_positive])))
        inside, outside = both & ~self.is_positive, ~both & ~self.is_positive
        shared = np.isin(label, sorted(set(label[inside]) & set(label[outside])))
        inside, outside = inside & shared, outside & shared
        if not inside.any():
            return None
        return self.rate(~self.said_positive, inside), self.rate(~self.said_positive, outside)

    def subgroup(self, by: str, name: str, members: "np.ndarray") -> Subgroup:
        """All rates over the images where `members` (N,) is true."""
        return Subgroup(
            by,
            name,
            accuracy=self.rate(self.right, members),
            sensitivity=self.rate(self.said_positive, members & self.is_positive),
            specificity=self.rate(~self.said_positive, members & ~self.is_positive),
            top_source=_most(self.predictions.source[members]),
            top_class=_most([CLASSES[i] for i in self.predictions.label[members]]),
        )

    def recalls(self) -> Iterator[Recall]:
        """Recall of each class from each source that has images of it, sources by name."""
        for source in sorted(set(self.predictions.source)):
            for position, label in enumerate(CLASSES):
                images = (self.predictions.source == source) & (self.predictions.label == position)
                if images.any():
                    yield Recall(source, label, self.rate(self.right, images))


def subgroups(judged: SubgroupRates, facts: "pd.DataFrame | None") -> tuple[Subgroup, ...]:
    """Every subgroup with an image, by source and, where `facts` (indexed by image_id) tells them, view, sex and age.

    What is the same for all images, unknown for instance, is no division of them and is left out.
    """
    parts = {by: names for by, names in divisions(judged.predictions, facts).items() if len(names) > 1}
    return tuple(judged.subgroup(by, name, images) for by, names in parts.items() for name, images in names.items())


def divisions(predictions: Predictions, facts: "pd.DataFrame | None") -> dict[str, Members]:
    """source, view, sex, age → the subgroups with an image; "unknown" last, views and sources by name."""
    found = {"source": _named(predictions.source, sorted(set(predictions.source)))}
    if facts is None:
        return found
    told = facts.loc[list(predictions.image_id)]
    view = told["view"].fillna(UNKNOWN).to_numpy(dtype=object)
    sex = told["sex"].map(SEXES).fillna(UNKNOWN).to_numpy(dtype=object)
    found["view"] = _named(view, [*sorted(set(view) - {UNKNOWN}), UNKNOWN])
    found["sex"] = _named(sex, [*SEXES.values(), UNKNOWN])
    found["age"] = _named(age_bands(told["age"].to_numpy(dtype=float)), [*AGE_BANDS, UNKNOWN])
    return found


def age_bands(years: "np.ndarray") -> "np.ndarray":
    """(N,) names of `AGE_BANDS` for ages in years, "unknown" for NaN."""
    import numpy as np

    inside = [(years >= start) & (years < end) for start, end in AGE_BANDS.values()]
    return np.select(inside, list(AGE_BANDS), default=UNKNOWN).astype(object)


def lower_than_overall(overall: Rate, found: Iterable[Subgroup]) -> list[Subgroup]:
    """Subgroups of enough images whose accuracy, with its whole interval, lies below that of all images."""
    value = overall.interval.value
    return [] if value is None else [s for s in found if not s.accuracy.small and _below(s.accuracy.interval, value)]


def _below(interval: Interval, value: float) -> bool:
    return interval.high is not None and interval.high < value


def _named(values: "np.ndarray", names: Sequence[str]) -> Members:
    return {name: values == name for name in names if (values == name).any()}


def _most(values: Iterable[str]) -> tuple[str, float]:
    """The most frequent value, of equals the first by name, and its share in percent."""
    counted = Counter(values)
    name, images = min(counted.items(), key=lambda item: (-item[1], item[0]))
    return name, 100 * images / counted.total()
