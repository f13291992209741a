"""The two splits of the images for cross-validation: grouped by patient, and the paper's."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import KFold, StratifiedGroupKFold

from cxr_platform.errors import FoldError
from cxr_platform.labels import CLASSES

Folds = npt.NDArray[np.int32]
OUTSIDE = -1
"""The fold of an external or an outside image, which are in none."""


def assign_folds(
    labels: Sequence[str], groups: Sequence[str], n_folds: int, seed: int, classes: Sequence[str] = CLASSES
) -> tuple[Folds, Folds]:
    """Return the fold, 0 … `n_folds`-1, of each image in the grouped and in the paper's split, as two int32 arrays.

    Grouped: stratified by label, each group in one fold (`StratifiedGroupKFold`). Paper: images shuffled into folds
    without regard to patients or classes (§2.4, `KFold`). The same arguments give the same folds.

    Raises `FoldError` for fewer than two folds, a class with fewer groups than folds, or groups so large that a class
    is missing from a grouped fold.
    """
    if n_folds < 2:
        raise FoldError("Expected at least 2 folds.", received=n_folds)
    _check_groups(labels, groups, n_folds, classes)
    features = np.zeros(len(labels))
    grouped_splits = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(
        features, np.asarray(labels), np.asarray(groups)
    )
    grouped = _fold_of_each(grouped_splits, len(labels))
    _check_classes(labels, grouped, n_folds, classes)
    paper = _fold_of_each(KFold(n_folds, shuffle=True, random_state=seed).split(features), len(labels))
    return grouped, paper


def contrast_folds(
    groups: Sequence[str], fold_of_group: Mapping[str, int], n_folds: int, seed: int
) -> tuple[Folds, Folds]:
    """Return the fold of each contrast image in the grouped and in the paper's split, as two int32 arrays.

    Grouped: the fold of the images of the study in its group; other groups, in random order, go to the fold that has
    fewest contrast images. Paper: images are shuffled into folds of one size.
    """
    sizes = Counter(groups)
    folds = {group: fold_of_group[group] for group in sizes if group in fold_of_group}
    filled = Counter(dict.fromkeys(range(n_folds), 0))
    filled.update(folds[group] for group in groups if group in folds)
    others = sorted(set(sizes) - set(folds))
    rng = np.random.default_rng(seed)
    for position in rng.permutation(len(others)):
        group = others[position]
        folds[group] = min(range(n_folds), key=lambda fold: (filled[fold], fold))
        filled[folds[group]] += sizes[group]
    grouped = np.array([folds[group] for group in groups], np.int32)
    return grouped, (rng.permutation(len(groups)) % n_folds).astype(np.int32)


def _fold_of_each(splits: Iterable[tuple[Any, Any]], size: int) -> Folds:
    folds = np.full(size, OUTSIDE, np.int32)
    for fold, (_, test) in enumerate(splits):
        folds[test] = fold
    return folds


def _check_groups(labels: Sequence[str], groups: Sequence[str], n_folds: int, classes: Sequence[str]) -> None:
    pairs = set(zip(labels, groups, strict=True))
    counts = {name: sum(label == name for label, _ in pairs) for name in classes}
    few = [f"{name} {count}" for name, count in counts.items() if count < n_folds]
    if few:
        possible = min(counts.values())
        raise FoldError(
            f"Expected at least {n_folds} groups (patients, or single images) in each of the {len(classes)} classes, "
            f"one for each of {n_folds} folds.",
            received=", ".join(few),
            advice=f"Ask for {possible} folds or fewer (FOLDS), or add images." if possible > 1 else "Add images.",
        )


def _check_classes(labels: Sequence[str], folds: Folds, n_folds: int, classes: Sequence[str]) -> None:
    present = set(zip(labels, folds.tolist(), strict=True))
    absent = [f"no {name} in fold {fold}" for fold in range(n_folds) for name in classes if (name, fold) not in present]
    if absent:
        raise FoldError(
            "Expected every class in every grouped fold; the groups are too large.",
            received=", ".join(absent),
            advice="Ask for fewer folds (FOLDS), or try another SEED.",
        )
