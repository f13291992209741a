"""Agreement of the collections' labels with those of readers, and rates under either.

Readers distinguish some classes only: those that their table gives. The other labels of a collection are not compared,
since a reader who was asked for opacities says nothing of an effusion.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.labels import CLASSES, UNDECIDED

NONE_OF_THEM = "another finding"
"""What a reader states whose words stand for none of the seven classes."""


@dataclass(frozen=True)
class LabelNoise:
    """Percentage of the `images` of `label` that readers call otherwise."""

    label: str
    images: int
    rate: Interval


@dataclass(frozen=True)
class Agreement:
    """Labels of one source, or of all sources, against those of readers, over the `images` that have both.

    `counts` maps (label of the collection, label of the readers) to images. `agreement` is in percent, `kappa` is
    Cohen's, from −1 to 1.
    """

    source: str
    images: int
    agreement: Interval
    kappa: Interval
    noise: tuple[LabelNoise, ...]
    counts: dict[tuple[str, str], int]


@dataclass(frozen=True)
class RatePair:
    """One rate of the winner in percent under the labels of the collections and under those of readers."""

    name: str
    images: tuple[int, int]
    collection: Interval
    readers: Interval


class ReaderLabels:
    """The labels of both kinds for the images of a study.

    `facts` (indexed by image_id) has the manifest's `source`, `reader_label` and `reader_finding`. `compared` (N,) is
    True for images that readers have labelled and whose own label is one that readers distinguish; `undecided` (N,)
    for those of which equally many readers state different things, which are not compared: their label is not known
    to be wrong. `reader` (N,) has the readers' label as a position in `CLASSES`, `len(CLASSES)` for `NONE_OF_THEM`.
    """

    def __init__(self, predictions: Predictions, facts: pd.DataFrame, seed: int) -> None:
        rows = facts.loc[list(predictions.image_id)]
        self.predictions, self.seed = predictions, seed
        known = {label: i for i, label in enumerate(CLASSES)}
        self.reader = rows["reader_label"].map(known).fillna(len(CLASSES)).to_numpy(dtype=int)
        self.undecided = (rows["reader_label"] == UNDECIDED).to_numpy(dtype=bool)
        self.compared = rows["reader_finding"].notna().to_numpy(dtype=bool) & ~self.undecided
        for source in np.unique(predictions.source[self.compared].astype(str)):
            own = predictions.source == source
            distinguished = np.unique(self.reader[own & self.compared])
            self.compared = self.compared & (~own | np.isin(predictions.label, distinguished))

    @property
    def sources(self) -> list[str]:
        """The sources with compared images, by name."""
        return sorted(set(self.predictions.source[self.compared]))

    def agreement(self, source: str | None = None) -> Agreement:
        """Return the agreement over the compared images of `source`, by default of all sources."""
        own = self.compared if source is None else self.compared & (self.predictions.source == source)
        label, reader = self.predictions.label[own], self.reader[own]
        bootstrap = Bootstrap(self.predictions.group_id[own], seed=self.seed)
        noise = tuple(
            LabelNoise(CLASSES[c], int((label == c).sum()), bootstrap.rate(reader != c, label == c))
            for c in np.unique(label)
        )
        counts = Counter((_name(a), _name(b)) for a, b in zip(label, reader, strict=True))
        return Agreement(
            source or "all sources",
            len(label),
            bootstrap.rate(label == reader),
            _kappa_interval(label, reader, bootstrap),
            noise,
            dict(sorted(counts.items())),
        )

    def rates(self, strategy: str) -> Iterator[RatePair]:
        """Yield the accuracy and the recalls of `strategy` under both labels; readers' own classes first.

        Under the readers' labels, images that they call `NONE_OF_THEM` are left out, and images that they have not
        labelled keep the label of their collection.
        """
        own, predicted = self.predictions.label, self.predictions.probability[strategy].argmax(axis=1)
        replaced = np.where(self.compared, self.reader, own)
        bootstrap = Bootstrap(self.predictions.group_id, seed=self.seed)
        everything, usable = np.ones(len(own), bool), replaced < len(CLASSES)

        def pair(name: str, among: Array, among_readers: Array) -> RatePair:
            return RatePair(
                name,
                (int(among.sum()), int(among_readers.sum())),
                bootstrap.rate(predicted == own, among),
                bootstrap.rate(predicted == replaced, among_readers),
            )

        for c in np.unique(own[self.compared]):
            name = f"recall of {CLASSES[c]}, images with both labels"
            yield pair(name, self.compared & (own == c), self.compared & (replaced == c))
        yield pair("7-class accuracy, images with both labels", self.compared, self.compared & usable)
        yield pair("7-class accuracy, all images", everything, usable)


def kappa(label: Array, reader: Array, weights: Array) -> Array:
    """Return Cohen's kappa (r,) of two labels (N,) with weights (r, N) of the images; NaN where it is undefined."""
    seen = weights.sum(axis=1)
    chance = np.zeros(len(weights))
    for category in np.union1d(label, reader):
        chance += (weights @ (label == category)) * (weights @ (reader == category))
    with np.errstate(invalid="ignore", divide="ignore"):
        agreed, chance = (weights @ (label == reader)) / seen, chance / seen**2
        result: Array = np.where(chance < 1, (agreed - chance) / (1 - chance), np.nan)
    return result


def _kappa_interval(label: Array, reader: Array, bootstrap: Bootstrap) -> Interval:
    value = float(kappa(label, reader, np.ones((1, len(label))))[0])
    if not np.isfinite(value) or bootstrap.groups < 2:
        return Interval(value if np.isfinite(value) else None, ratio=True)
    return percentile_interval(value, bootstrap.replicate(lambda w: kappa(label, reader, w.astype(float))), ratio=True)


def _name(position: int) -> str:
    return CLASSES[position] if position < len(CLASSES) else NONE_OF_THEM
