"""The head of `robust`: a linear layer on frozen features, fitted so that it does not rest on the origin of an image.

Regularised least squares with one target per class, solved in closed form: without random numbers, steps or a learning
rate. The options are those of `[robust]` in a profile; with all of them off it is the plain fit to compare with.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from cxr_platform.config import RobustConfig
from cxr_platform.labels import CLASSES, POSITIVE_CLASS, class_index

Array = NDArray[Any]

CONTRAST = -1
"""Label of a contrast image: none of the seven classes, and so not Covid19."""

SMALLEST_CELL = 20
"""Images of a class and origin that count as so many at least, or a handful would weigh as much as hundreds."""

FEWEST_IN_MEAN, FEWEST_IN_COVARIANCE = 10, 40
"""Images from which a mean, or a covariance, of an origin is compared with that of others."""

DRO_ROUNDS, DRO_RATE = 4, 1.0
DRAWS = 5
"""Balanced subsets over which the last layer is averaged."""

LOGITS_PER_SCORE = 10.0
"""Scores are near 0 for wrong classes and 1 for the right one. The temperature that calibrates them is fitted later."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """`weights` (F, 7) and `bias` (7,) float32 of a linear layer on features as they are."""

    weights: Array
    bias: Array

    def logits(self, features: Array) -> Array:
        """Return logits (N, 7) of features (N, F)."""
        logits: Array = features @ self.weights + self.bias
        return logits


def fit_head(features: Array, labels: Array, origins: Array, config: RobustConfig, seed: int = 0) -> LinearHead:
    """Return the head fitted to features (N, F), labels (N,) and the origin (N,) of each image.

    A label is a position in `CLASSES`, or `CONTRAST`, whose targets are 0 for Covid19 and equal for the others. `seed`
    draws the subsets of `last_layer = "balanced"`.
    """
    features = features.astype("float32", copy=False)
    cells = np.unique([f"{label} {origin}" for label, origin in zip(labels, origins, strict=True)], return_inverse=True)
    weights = image_weights(labels, origins, config.balanced)
    if config.last_layer == "balanced":
        rows = [_balanced_rows(cells[1], np.random.default_rng([seed, draw])) for draw in range(DRAWS)]
        heads = [_solved(features[r], labels[r], origins[r], np.ones(len(r)), config) for r in rows]
    else:
        heads = [_solved(features, labels, origins, weights, config)]
    if config.group_dro:
        heads = [_worst_cells_weighted(features, labels, origins, cells[1], weights, heads[0], config)]
    mean = [np.mean([getattr(head, part) for head in heads], axis=0) for part in ("weights", "bias")]
    return LinearHead(*(LOGITS_PER_SCORE * part.astype("float32") for part in mean))


def fitting_rows(labels: Array, origins: Array, rows: Array, config: RobustConfig) -> Array | None:
    """Return those of `rows` that a head of `config` is fitted to, `None` if Covid19 or everything else is missing.

    With `gate` they are `None` too if its second head has no origin with both. `labels` and `origins` (N,) are those
    of all images.
    """
    if config.gate and fitting_rows(labels, origins, rows, within_origins(config)) is None:
        return None
    if not config.contrast:
        rows = rows[labels[rows] != CONTRAST]
    if config.last_layer == "within":
        both = [origin for origin in np.unique(origins[rows]) if _has_both_sides(labels[rows[origins[rows] == origin]])]
        rows = rows[np.isin(origins[rows], both)]
    return rows if _has_both_sides(labels[rows]) else None


def within_origins(config: RobustConfig) -> RobustConfig:
    """Return the settings of the second head of `gate`: fitted to the origins with Covid19 and other images."""
    return replace(config, gate=False, last_layer="within")


def class_probabilities(logits: Array, config: RobustConfig) -> Array:
    """Return probabilities (n, 7) of logits (n, 7): softmax, or Covid19 against Normal and the others in what is left.

    Against Normal, the logit of Covid19 has to exceed that of Normal by `config.margin`.
    """
    if config.against == "all":
        return np.asarray(softmax(logits, axis=1))
    positive, normal = class_index(POSITIVE_CLASS), class_index("Normal")
    covid = 1 / (1 + np.exp(np.clip(logits[:, normal] + config.margin - logits[:, positive], -50, 50)))
    others = [place for place in range(len(CLASSES)) if place != positive]
    probabilities = np.empty_like(logits)
    probabilities[:, positive] = covid
    probabilities[:, others] = (1 - covid)[:, None] * softmax(logits[:, others], axis=1)
    return probabilities


def _has_both_sides(labels: Array) -> bool:
    positive = labels == class_index(POSITIVE_CLASS)
    return bool(positive.any() and not positive.all())


def image_weights(labels: Array, origins: Array, balanced: str) -> Array:
    """Return weights (N,) with mean 1: ones, or equal sums of the classes, or also of the origins within each class."""
    weights = np.ones(len(labels))
    if balanced == "none":
        return weights
    for label in np.unique(labels):
        of_class = labels == label
        cells = [of_class & (origins == origin) for origin in np.unique(origins[of_class])]
        for cell in cells if balanced == "class-origin" else [of_class]:
            share = 1 / len(cells) if balanced == "class-origin" else 1.0
            weights[cell] = share / max(int(cell.sum()), SMALLEST_CELL)
    return np.asarray(weights / weights.mean())


def targets(labels: Array) -> Array:
    """Return targets (N, 7): 1 for the class of the image; of contrast images 0 for Covid19 and equal for the rest."""
    wanted = np.eye(len(CLASSES), dtype="float32")[labels]
    other = np.full(len(CLASSES), 1 / (len(CLASSES) - 1), "float32")
    other[class_index(POSITIVE_CLASS)] = 0
    wanted[labels == CONTRAST] = other
    return wanted


def mean_differences(scaled: Array, labels: Array, origins: Array) -> Array:
    """Return (F, F): the scatter of the mean features of origins within a class; its directions tell origins apart.

    As a penalty it makes the mean score of a class alike at all origins, as within-class covariance normalisation does
    for telephones in speaker recognition (Hatch, Kajarekar & Stolcke 2006).
    """
    deviations: list[Array] = []
    for label in np.unique(labels):
        cells = _cells(labels == label, origins, FEWEST_IN_MEAN)
        if len(cells) > 1:
            means = np.array([scaled[cell].mean(axis=0) for cell in cells])
            deviations.extend(means - means.mean(axis=0))
    if not deviations:
        return np.zeros((scaled.shape[1],) * 2, "float32")
    stacked = np.array(deviations)
    return np.asarray(stacked.T @ stacked / len(stacked))


def covariance_differences(scaled: Array, labels: Array, origins: Array) -> Array:
    """Return (F, F): the mean square of the differences between the origins' covariances within classes.

    CORAL (Sun & Saenko 2016) for a linear head: as a penalty it avoids directions in which the covariances differ.
    """
    covariances = []
    for rows in _cells(np.ones(len(labels), bool), origins, FEWEST_IN_COVARIANCE):
        centred = scaled[rows].copy()
        for label in np.unique(labels[rows]):
            of_class = labels[rows] == label
            centred[of_class] -= centred[of_class].mean(axis=0)
        covariances.append(centred.T @ centred / len(centred))
    if not covariances:
        return np.zeros((scaled.shape[1],) * 2, "float32")
    mean = np.mean(covariances, axis=0)
    return np.asarray(np.mean([(part - mean) @ (part - mean) for part in covariances], axis=0))


def _cells(among: Array, origins: Array, fewest: int) -> list[Array]:
    cells = [among & (origins == origin) for origin in np.unique(origins[among])]
    return [cell for cell in cells if cell.sum() >= fewest]


def _solved(features: Array, labels: Array, origins: Array, weights: Array, config: RobustConfig) -> LinearHead:
    """Return the head of weighted least squares on standardised features, with the penalties of `config`."""
    weights = (weights / weights.sum()).astype("float32")[:, None]
    mean = (weights * features).sum(axis=0)
    scale = np.sqrt((weights * np.square(features - mean)).sum(axis=0)) + 1e-3
    scaled, wanted = (features - mean) / scale, targets(labels)
    expected = (weights * wanted).sum(axis=0)
    weighted = np.sqrt(weights) * scaled  # NumPy computes a product of one array with itself in half the time
    matrix = weighted.T @ weighted + config.shrinkage * np.eye(features.shape[1], dtype="float32")
    if config.origin_penalty:
        matrix += config.origin_penalty * mean_differences(scaled, labels, origins)
    if config.coral:
        matrix += config.coral * covariance_differences(scaled, labels, origins)
    solved = np.linalg.solve(matrix, (weights * scaled).T @ (wanted - expected))
    solution = solved / scale[:, None]
    return LinearHead(solution, expected - mean @ solution)


def _worst_cells_weighted(
    features: Array,
    labels: Array,
    origins: Array,
    cells: Array,
    weights: Array,
    head: LinearHead,
    config: RobustConfig,
) -> LinearHead:
    """Return a head for which each class at each origin was weighted by its loss (GroupDRO, Sagawa et al. 2020)."""
    sums, counts = np.bincount(cells, weights=weights), np.bincount(cells)
    for _ in range(DRO_ROUNDS):
        losses = np.square(head.logits(features) - targets(labels)).sum(axis=1)
        sums = sums * np.exp(DRO_RATE * np.bincount(cells, weights=losses) / counts)
        sums /= sums.sum()
        head = _solved(features, labels, origins, (sums / counts)[cells], config)
    return head


def _balanced_rows(cells: Array, random: np.random.Generator) -> Array:
    """Return rows with equally many images of each cell: as many as the smallest has, `SMALLEST_CELL` at least."""
    counts = np.bincount(cells)
    wanted = max(int(counts.min()), SMALLEST_CELL)
    drawn = [random.permutation(np.flatnonzero(cells == cell))[:wanted] for cell in range(len(counts))]
    return np.asarray(np.concatenate(drawn))
