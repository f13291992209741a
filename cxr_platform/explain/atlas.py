"""The paper's features as candidates for biomarkers (§4): which ones separate a class, and in how many networks.

A feature is one of the activations that the classes' logits are computed from. Features of networks trained on
different folds have no common numbering; they are matched by how alike they answer the same images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from cxr_platform.explain.saliency import FEATURES
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH, pad
from cxr_platform.models.mobilenet import Network

LEAST_CORRELATION = 0.7
LARGEST_AUC_GAP = 0.05
LEAST_IMAGES = 3  # of a class and of the rest, for an area under the curve to be worth anything


@dataclass(frozen=True)
class Ranked:
    """A feature and how well it separates the class `label` (position in `CLASSES`) from the rest, as ROC AUC.

    It was chosen for `auc_chosen` among all features on one half of the patients; `auc_held` is of the other half.
    """

    feature: int
    label: int
    auc_chosen: float
    auc_held: float


def penultimate(network: Network, images: np.ndarray) -> np.ndarray:
    """Features (N, F) float32 of uint8 images (N, S, S); F is `config.dense_units`."""
    model = _model(network)
    parts = [np.zeros((0, network.config.dense_units), "float32")]
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        parts.append(np.asarray(model.predict_on_batch(to_network_input(pad(batch, BATCH))))[: len(batch)])
    return np.concatenate(parts)


def separations(features: np.ndarray, kinds: np.ndarray) -> dict[Any, np.ndarray]:
    """For each of the `kinds` (N,) of images the ROC AUC (F,) of each column of `features` (N, F) for being of it.

    By the ranks' sum (Mann & Whitney 1947), for all columns at once; NaN with fewer than three images on a side.
    """
    from scipy.stats import rankdata

    ranks = rankdata(features, axis=0)
    return {kind: _area(ranks, kinds == kind) for kind in np.unique(kinds)}


def top_features(features: np.ndarray, labels: np.ndarray, chosen: np.ndarray, count: int) -> list[Ranked]:
    """For each class the `count` features with the highest AUC on the images `chosen` (N,) bool, measured on the others.

    A class with too few images on either half has none. Only features that are high for the class are looked for.
    """
    on_chosen = separations(features[chosen], labels[chosen])
    on_held = separations(features[~chosen], labels[~chosen])
    both = [label for label in on_chosen if label in on_held]
    return [
        Ranked(int(feature), int(label), float(on_chosen[label][feature]), float(on_held[label][feature]))
        for label in both
        if not np.isnan([on_chosen[label][0], on_held[label][0]]).any()
        for feature in np.argsort(-on_chosen[label], kind="stable")[:count]
    ]


def is_matched(reference: np.ndarray, others: np.ndarray, auc: float, aucs: np.ndarray) -> bool:
    """Whether another network has the feature too: answers `others` (n, F) to the n images of `reference` (n,).

    The one that correlates most, either way, must do so with |r| ≥ 0.7, and its AUC for the class, `aucs` (F,), turned
    round where r is negative, must lie within 0.05 of `auc`.
    """
    correlations = _correlations(reference, others)
    best = int(np.argmax(np.abs(correlations)))
    there = aucs[best] if correlations[best] > 0 else 1 - aucs[best]
    return bool(abs(correlations[best]) >= LEAST_CORRELATION and abs(there - auc) <= LARGEST_AUC_GAP)


def halves(groups: np.ndarray, seed: int) -> np.ndarray:
    """True (N,) for the images of one random half of the groups."""
    names, position = np.unique(groups, return_inverse=True)
    chosen = np.random.default_rng(seed).permutation(len(names)) < (len(names) + 1) // 2
    return np.asarray(chosen[position])


def clearest_source(feature: np.ndarray, sources: Sequence[str]) -> tuple[str, float] | None:
    """The source that `feature` (N,) is highest for, with its AUC; `None` where only one source has enough images."""
    aucs = {str(name): float(area[0]) for name, area in separations(feature[:, None], np.asarray(sources)).items()}
    known = {name: auc for name, auc in aucs.items() if not np.isnan(auc)}
    return max(known.items(), key=lambda item: item[1]) if known else None


def _area(ranks: np.ndarray, member: np.ndarray) -> np.ndarray:
    inside, outside = int(member.sum()), int((~member).sum())
    if min(inside, outside) < LEAST_IMAGES:
        return np.full(ranks.shape[1], np.nan)
    return np.asarray((ranks[member].sum(axis=0) - inside * (inside + 1) / 2) / (inside * outside))


def _correlations(reference: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pearson's r (F,); 0 for a feature that never changes."""
    a, b = reference - reference.mean(), others - others.mean(axis=0)
    scale = np.sqrt((a**2).sum() * (b**2).sum(axis=0))
    return np.divide(a @ b, scale, out=np.zeros(b.shape[1], scale.dtype), where=scale > 0)


@lru_cache(maxsize=1)
def _model(network: Network) -> keras.Model:
    return keras.Model(network.full.input, network.full.get_layer(FEATURES).output)
