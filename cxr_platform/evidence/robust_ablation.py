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
from scipy.special import softmax

from cxr_platform.config import RobustConfig, View
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import POSITIVE, Array
from cxr_platform.evaluation.statistics.unseen_origins import Pair, PairScores
from cxr_platform.intake.lung_views import ShownView, views_needed
from cxr_platform.labels import CLASSES, class_index
from cxr_platform.storage.files import write_atomically
from cxr_platform.training.robust_head import CONTRAST, fit_head, fitting_rows, within_origins

FEWEST = 15
"""Images that an origin needs on its side of a pair."""
NORMAL = class_index("Normal")


@dataclass(frozen=True, eq=False)
class AblationData:
    """Images of a study, contrast images among them, and their frozen features (N, F) by view.

    `labels` (N,) are positions in `CLASSES` or `CONTRAST`; `origins`, `groups` and `folds` are (N,). Logits are kept,
    as most settings differ only in what is made of them; in the folder `cache` also for another process. The arrays are
    not changed once logits were computed.
    """

    labels: Array
    origins: Array
    groups: Array
    folds: Array
    features: Mapping[ShownView, Array]
    cache: Path | None = None
    _kept: dict[str, Array] = field(default_factory=dict, repr=False)

    @cached_property
    def _digests(self) -> dict[ShownView, bytes]:
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
        if (probabilities := head_probabilities(data, train, rows, config, seed)) is not None:
            scored[pair] = PairScores(rows, probabilities[:, POSITIVE], positive[rows])
    if not scored:
        raise NotPossible(
            "Expected Covid19 and other classes from at least three origins.",
            received=f"origins {', '.join(np.unique(data.origins))}",
            advice='Build the manifest of more collections, with classes = "any".',
        )
    return scored


def out_of_fold_accuracy(data: AblationData, config: RobustConfig, seed: int) -> float | None:
    """Return the accuracy of the seven classes, 0 to 1, in cross-validation over the images of the study.

    `None` if a head cannot be fitted.
    """
    right = []
    for fold in np.unique(data.folds):
        rows = np.flatnonzero((data.folds == fold) & (data.labels != CONTRAST))
        probabilities = head_probabilities(data, np.flatnonzero(data.folds != fold), rows, config, seed)
        if probabilities is None:
            return None
        right.append(probabilities.argmax(axis=1) == data.labels[rows])
    return float(np.concatenate(right).mean())


def head_probabilities(data: AblationData, train: Array, rows: Array, config: RobustConfig, seed: int) -> Array | None:
    """Return probabilities (n, 7) of `rows` by heads fitted to the rows `train`; `None` if no head can be fitted.

    With `gate` the probability of Covid19 is the lower of two, if the second head can be fitted.
    """
    fitted = fitting_rows(data.labels, data.origins, train, config)
    if fitted is None:
        return None
    train = fitted
    logits: Array = np.mean([_view_logits(data, view, train, rows, config, seed) for view in config.views], axis=0)
    probabilities = class_probabilities(logits, config)
    if config.gate:
        second = head_probabilities(data, train, rows, within_origins(config), seed)
        if second is not None:
            lower = np.minimum(probabilities[:, POSITIVE], second[:, POSITIVE])
            rest = (1 - lower) / np.maximum(1 - probabilities[:, POSITIVE], 1e-9)
            probabilities = probabilities * rest[:, None]
            probabilities[:, POSITIVE] = lower
    return probabilities


def class_probabilities(logits: Array, config: RobustConfig) -> Array:
    """Return probabilities (n, 7) of logits (n, 7): softmax, or Covid19 against Normal and the others in what is left.

    Against Normal, the logit of Covid19 has to exceed that of Normal by `config.margin`.
    """
    if config.against == "all":
        return np.asarray(softmax(logits, axis=1))
    covid = 1 / (1 + np.exp(np.clip(logits[:, NORMAL] + config.margin - logits[:, POSITIVE], -50, 50)))
    others = [place for place in range(len(CLASSES)) if place != POSITIVE]
    probabilities = np.empty_like(logits)
    probabilities[:, POSITIVE] = covid
    probabilities[:, others] = (1 - covid)[:, None] * softmax(logits[:, others], axis=1)
    return probabilities


def _view_logits(data: AblationData, view: View, train: Array, rows: Array, config: RobustConfig, seed: int) -> Array:
    shown = (view,) if view != "lungs" else views_needed((view,), config.appearance)
    of_head = replace(
        config, views=("whole",), against="all", margin=0.0, gate=False, contrast=False, appearance="none"
    )
    digests = b"".join(data._digests[name] for name in shown)
    of_rows = train.tobytes() + b"\n" + rows.tobytes()
    key = hashlib.sha256(repr((of_head, shown, seed)).encode() + digests + of_rows).hexdigest()
    file = None if data.cache is None else data.cache / f"logits-{key[:32]}.npy"
    if key not in data._kept and file is not None and file.exists():
        data._kept[key] = np.load(file)
    if key not in data._kept:
        features = np.concatenate([data.features[name][train] for name in shown])
        labels, origins = (np.tile(each[train], len(shown)) for each in (data.labels, data.origins))
        data._kept[key] = fit_head(features, labels, origins, config, seed).logits(data.features[view][rows])
        if file is not None:
            write_atomically(file, array_bytes(data._kept[key]))
    return data._kept[key]


def array_bytes(array: Array) -> bytes:
    """Return an array as the content of a .npy file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()
