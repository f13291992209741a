"""Features that separate a class from the others, the paper's candidates for biomarkers (§4), and matching of features
between networks.

A feature is one of the activations that the logits of the classes are computed from. Features of networks trained on
different folds have no common numbering; they are matched by how similarly they respond to the same images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cxr_platform.explain.saliency import FEATURES
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH, pad
from cxr_platform.models.mobilenet import Network

MIN_CORRELATION = 0.7
MAX_AUC_GAP = 0.05
MIN_IMAGES = 3
"""Images of a class and of the rest that an AUC needs to be meaningful."""


@dataclass(frozen=True)
class RankedFeature:
    """A feature and the ROC AUC with which it separates the class `label` (position in `CLASSES`) from the rest.

    It was chosen among all features for `auc_chosen`, on one half of the patients; `auc_held` is of the other half.
    """

    feature: int
    label: int
    auc_chosen: float
    auc_held: float


def penultimate(network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features (N, F) of images (N, S, S); F is `config.dense_units`."""
    model = _feature_model(network)
    parts = [np.zeros((0, network.config.dense_units), "float32")]
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        parts.append(np.asarray(model.predict_on_batch(to_network_input(pad(batch, BATCH))))[: len(batch)])
    return np.concatenate(parts)


def class_aucs(features: NDArray[Any], classes: NDArray[Any]) -> dict[Any, NDArray[np.float64]]:
    """Return for each value in `classes` (N,) the ROC AUC (F,) with which each of the `features` (N, F) separates it.

    The AUC follows from rank sums (Mann & Whitney 1947). It is NaN with fewer than `MIN_IMAGES` images on a side.
    """
    ranks = rankdata(features, axis=0)
    return {value: _auc(ranks, classes == value) for value in np.unique(classes)}


def top_features(
    features: NDArray[Any], labels: NDArray[Any], chosen: NDArray[np.bool_], count: int
) -> list[RankedFeature]:
    """Return the `count` best features of each class by AUC on the images `chosen` (N,), measured on the others.

    Classes with too few images on either half are left out. Only features that are high for the class are considered.
    """
    on_chosen = class_aucs(features[chosen], labels[chosen])
    on_held = class_aucs(features[~chosen], labels[~chosen])
    both = [label for label in on_chosen if label in on_held]
    return [
        RankedFeature(int(feature), int(label), float(on_chosen[label][feature]), float(on_held[label][feature]))
        for label in both
        if not np.isnan([on_chosen[label][0], on_held[label][0]]).any()
        for feature in np.argsort(-on_chosen[label], kind="stable")[:count]
    ]


def is_matched(reference: NDArray[Any], others: NDArray[Any], auc: float, aucs: NDArray[Any]) -> bool:
    """Return True if another network has a feature, given its values `reference` (n,) and AUC `auc` for its class.

    `others` (n, F) are the other network's features of the same n images, `aucs` (F,) their AUCs for the class. The one
    that correlates most must have |r| ≥ 0.7, and its AUC (1 − AUC if r is negative) must be within 0.05 of `auc`.
    """
    correlations = _correlations(reference, others)
    best = int(np.argmax(np.abs(correlations)))
    best_auc = aucs[best] if correlations[best] > 0 else 1 - aucs[best]
    return bool(abs(correlations[best]) >= MIN_CORRELATION and abs(best_auc - auc) <= MAX_AUC_GAP)


def random_half(groups: NDArray[Any], seed: int) -> NDArray[np.bool_]:
    """Return True (N,) for the images of one random half of the groups."""
    names, position = np.unique(groups, return_inverse=True)
    chosen = np.random.default_rng(seed).permutation(len(names)) < (len(names) + 1) // 2
    return np.asarray(chosen[position])


def best_separated_source(feature: NDArray[Any], sources: Sequence[str]) -> tuple[str, float] | None:
    """Return the source for which `feature` (N,) is highest, with its AUC; `None` if only one has enough images."""
    aucs = {str(name): float(auc[0]) for name, auc in class_aucs(feature[:, None], np.asarray(sources)).items()}
    known = {name: auc for name, auc in aucs.items() if not np.isnan(auc)}
    return max(known.items(), key=lambda item: item[1]) if known else None


def _auc(ranks: NDArray[np.float64], member: NDArray[np.bool_]) -> NDArray[np.float64]:
    inside, outside = int(member.sum()), int((~member).sum())
    if min(inside, outside) < MIN_IMAGES:
        return np.full(ranks.shape[1], np.nan)
    return np.asarray((ranks[member].sum(axis=0) - inside * (inside + 1) / 2) / (inside * outside))


def _correlations(reference: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Return Pearson's r (F,); 0 for a constant feature."""
    a, b = reference - reference.mean(), others - others.mean(axis=0)
    scale = np.sqrt((a**2).sum() * (b**2).sum(axis=0))
    r: NDArray[Any] = np.zeros(b.shape[1], scale.dtype)
    np.divide(a @ b, scale, out=r, where=scale > 0)
    return r


@lru_cache(maxsize=1)
def _feature_model(network: Network) -> keras.Model:
    return keras.Model(network.full.input, network.full.get_layer(FEATURES).output)
