"""The two ways in which the images are split for cross-validation."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cxr_platform.errors import FoldError
from cxr_platform.labels import CLASSES

Folds = npt.NDArray[np.int32]
OUTSIDE = -1
"""The fold of an external image: in none."""


def assign_folds(
    labels: Sequence[str], groups: Sequence[str], n_folds: int, seed: int, classes: Sequence[str] = CLASSES
) -> tuple[Folds, Folds]:
    """The fold, 0 … `n_folds`-1, of each image in the grouped and in the paper's split, as two int32 arrays.

    Grouped: stratified by label, a group on one side (`StratifiedGroupKFold`). Paper: images shuffled into folds
    without regard to patients or classes (§2.4, `KFold`). The same arguments give the same folds.

    Raises `FoldError` when fewer than two folds are asked for, when a class has fewer groups than folds, or when the
    groups are too large for every grouped fold to hold every class.
    """
    if n_folds < 2:
        raise FoldError("Expected at least 2 folds.", received=n_folds)
    _check_groups(labels, groups, n_folds, classes)
    grouped = _grouped(np.asarray(labels), np.asarray(groups), n_folds, seed)
    _check_classes(labels, grouped, n_folds, classes)
    return grouped, _shuffled(len(labels), n_folds, seed)


def _grouped(labels: npt.NDArray, groups: npt.NDArray, n_folds: int, seed: int) -> Folds:
    from sklearn.model_selection import StratifiedGroupKFold

    folds = np.full(len(labels), OUTSIDE, np.int32)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        folds[test] = fold
    return folds


def _shuffled(size: int, n_folds: int, seed: int) -> Folds:
    from sklearn.model_selection import KFold

    folds = np.full(size, OUTSIDE, np.int32)
    for fold, (_, test) in enumerate(KFold(n_folds, shuffle=True, random_state=seed).split(np.zeros(size))):
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
            "Expected every class in every grouped fold; the groups are too large to be spread so.",
            received=", ".join(absent),
            advice="Ask for fewer folds (FOLDS), or try another SEED.",
        )
