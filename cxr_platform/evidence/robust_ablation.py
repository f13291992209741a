"""Heads on frozen features judged at origins that they were not trained on, for every switch of `[robust]`.

A pair is one origin's images with Covid19 and another's images without. The head that scores it was trained without any
image of both, and without the groups of their images: a stricter test than leaving one of the two out.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cxr_platform.config import RobustConfig, View
from cxr_platform.domain.gate import GatedAnswers, gated_answers
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import POSITIVE, Array
from cxr_platform.evaluation.statistics.unseen_origins import Pair, PairScores
from cxr_platform.storage.files import write_atomically
from cxr_platform.training.robust_head import CONTRAST, class_probabilities, fit_head, fitting_rows, within_origins

FEWEST = 15
"""Images that an origin needs on its side of a pair."""


@dataclass(frozen=True, eq=False)
class MixedLooks:
    """Features (L, N, F) of the lungs of N images with L looks each, and the `donors` (L, N) of these: row numbers."""

    donors: Array
    features: Array

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of donors and features."""
        return hashlib.sha256(self.donors.astype(np.int64).tobytes() + array_bytes(self.features)).digest()

    def among(self, rows: Array) -> tuple[Array, Array]:
        """Return those of `rows` that have a look of a donor among `rows`, and the first such look of each: (n, F)."""
        allowed = np.isin(self.donors[:, rows], rows)
        has_one = allowed.any(axis=0)
        kept = rows[has_one]
        return kept, self.features[allowed.argmax(axis=0)[has_one], kept]


@dataclass(frozen=True, eq=False)
class AblationData:
    """Images of a study, contrast images among them, and their frozen features (N, F) by view.

    `labels` (N,) are positions in `CLASSES` or `CONTRAST`; `origins`, `groups` and `folds` are (N,); `looks` are for
    `appearance = "mixed"`. Logits are kept, as most settings differ only in what is made of them; in the folder `cache`
    also for another process. The arrays are not changed once logits were computed.
    """

    labels: Array
    origins: Array
    groups: Array
    folds: Array
    features: Mapping[View, Array]
    cache: Path | None = None
    looks: MixedLooks | None = None
    _kept: dict[str, Array] = field(default_factory=dict, repr=False)

    @cached_property
    def _digests(self) -> dict[View, bytes]:
        """SHA-256 of labels, origins and the features of a view: what a head is fitted to, beside rows and settings."""
        labels, origins = self.labels.astype(np.int64).tobytes(), "\0".join(map(str, self.origins)).encode()
        return {
            view: hashlib.sha256(b"\n".join([labels, origins, array_bytes(features)])).digest()
            for view, features in self.features.items()
        }

    def pairs(self) -> Iterator[Pair]:
        """Yield every pair of two origins with enough images on both sides; contrast images are on no side."""
        positive, negative = self.labels == POSITIVE, (self.labels != POSITIVE) & (self.labels != CONTRAST)
        for first in np.unique(self.origins[positive]):
            for second in np.unique(self.origins[negative]):
                sides = (positive & (self.origins == first), negative & (self.origins == second))
                if first != second and min(int(side.sum()) for side in sides) >= FEWEST:
                    yield str(first), str(second)


def unseen_scores(data: AblationData, config: RobustConfig, seed: int) -> dict[Pair, PairScores]:
    """Return the scores of Covid19 of each pair that can be tested; a head needs Covid19 and others without the pair.

    Raise `NotPossible` if there is none.
    """
    scored = {}
    for pair in data.pairs():
        away = np.isin(data.origins, pair)
        train = np.flatnonzero(~away & ~np.isin(data.groups, np.unique(data.groups[away])))
        positive = (data.labels == POSITIVE) & (data.origins == pair[0])
        negative = (data.labels != POSITIVE) & (data.labels != CONTRAST) & (data.origins == pair[1])
        rows = np.flatnonzero(positive | negative)
        if (answers := head_answers(data, train, rows, config, seed)) is not None:
            scored[pair] = PairScores(rows, answers.probabilities[:, POSITIVE], positive[rows])
    if not scored:
        raise NotPossible(
            "Expected Covid19 and other classes from at least three origins.",
            received=f"origins {', '.join(np.unique(data.origins))}",
            advice='Build the manifest of more collections, with classes = "any".',
        )
    return scored


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Whether the answer for each image is right, and whether it is indeterminate: (N,) bool, False of contrast images.

    An indeterminate answer is not right.
    """

    right: Array
    indeterminate: Array


def out_of_fold_answers(data: AblationData, config: RobustConfig, seed: int) -> OutOfFold | None:
    """Return what the seven-class answers are in cross-validation over the study; `None` if a head cannot be fitted."""
    right, indeterminate = np.zeros((2, len(data.labels)), bool)
    for fold in np.unique(data.folds):
        rows = np.flatnonzero((data.folds == fold) & (data.labels != CONTRAST))
        answers = head_answers(data, np.flatnonzero(data.folds != fold), rows, config, seed)
        if answers is None:
            return None
        indeterminate[rows] = answers.indeterminate
        right[rows] = (answers.probabilities.argmax(axis=1) == data.labels[rows]) & ~answers.indeterminate
    return OutOfFold(right, indeterminate)


def head_answers(data: AblationData, train: Array, rows: Array, config: RobustConfig, seed: int) -> GatedAnswers | None:
    """Return the answers for `rows` by heads fitted to the rows `train`; `None` if one of them cannot be fitted.

    Answers are indeterminate with `gate` alone.
    """
    fitted = fitting_rows(data.labels, data.origins, train, config)
    if fitted is None:
        return None
    logits: Array = np.mean([_view_logits(data, view, fitted, rows, config, seed) for view in config.views], axis=0)
    probabilities = class_probabilities(logits, config)
    second = head_answers(data, fitted, rows, within_origins(config), seed) if config.gate else None
    if second is None:
        return GatedAnswers(probabilities, np.zeros(len(rows), bool))
    return gated_answers(probabilities, second.probabilities)


def _view_logits(data: AblationData, view: View, train: Array, rows: Array, config: RobustConfig, seed: int) -> Array:
    of_head = replace(
        config, views=("whole",), against="all", margin=0.0, gate=False, contrast=False, appearance="none"
    )
    looks = data.looks if view == "lungs" and config.appearance == "mixed" else None
    digests = data._digests[view] + (looks.digest if looks else b"")
    of_rows = train.tobytes() + b"\n" + rows.tobytes()
    key = hashlib.sha256(repr((of_head, view, seed)).encode() + digests + of_rows).hexdigest()
    file = None if data.cache is None else data.cache / f"logits-{key[:32]}.npy"
    if key not in data._kept and file is not None and file.exists():
        data._kept[key] = np.load(file)
    if key not in data._kept:
        features, fitted = data.features[view][train], train
        if looks:
            kept, of_looks = looks.among(train)
            features, fitted = np.concatenate([features, of_looks]), np.append(train, kept)
        head = fit_head(features, data.labels[fitted], data.origins[fitted], config, seed)
        data._kept[key] = head.logits(data.features[view][rows])
        if file is not None:
            write_atomically(file, array_bytes(data._kept[key]))
    return data._kept[key]


def array_bytes(array: Array) -> bytes:
    """Return an array as the content of a .npy file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()
