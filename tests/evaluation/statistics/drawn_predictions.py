"""Predictions made up in memory, for tests of statistics."""

from collections.abc import Mapping, Sequence

import numpy as np

from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.labels import CLASSES


def predictions_of(
    label: Sequence[int] | np.ndarray,
    probability: Mapping[str, np.ndarray],
    *,
    group: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> Predictions:
    """Images of `label` in pairs of a group, and folds that keep pairs together, unless they are given."""
    label, pairs = np.asarray(label), np.arange(len(label)) // 2
    group = pairs if group is None else group
    fold = pairs % 3 if fold is None else fold
    ids = np.array([f"image-{i:05d}" for i in range(len(label))], dtype=object)
    names = np.array([f"group-{g:05d}" for g in group], dtype=object)
    source = np.full(len(label), "nih", dtype=object)
    return Predictions(ids, names, source, label, fold, int(fold.max()) + 1, probability)


def drawn_labels(images: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, len(CLASSES), images)


def guesses(label: np.ndarray, seed: int = 0, strength: float = 2.0) -> np.ndarray:
    """(N, 7) probabilities that lean to the right class; two decimals, so that scores are level now and then."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(label), len(CLASSES)))
    logits[np.arange(len(label)), label] += strength * random.random(len(label))
    rounded = np.round(softmax(logits), 2) + 1e-3
    return rounded / rounded.sum(axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def overconfident(images: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from calibrated probabilities, and the probabilities of a network that multiplies their logits."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=1.5, size=(images, len(CLASSES)))
    label = (softmax(logits).cumsum(axis=1) < random.random((images, 1))).sum(axis=1)
    return label, softmax(logits * temperature)
