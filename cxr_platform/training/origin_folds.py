"""Folds of the protocol `origins`: each leaves the images of one origin, a hospital or a publication, out of training.

A network is trained on images of the other origins, and tested on images of two kinds: those of the origin left out,
and those of the others in one grouped fold of the manifest, on which it was not trained either. So one network ranks
images of both, and its scores are on one scale.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import NotPossible
from cxr_platform.labels import POSITIVE_CLASS

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

FEWEST = 2
"""Origins that can be left out in turn: with one there is nothing to compare it with."""


@dataclass(frozen=True, eq=False)
class OriginFolds:
    """Origin that each of K folds leaves out; `test` and `train` (K, N) bool: the images of each fold."""

    origins: tuple[str, ...]
    test: NDArray[Any]
    train: NDArray[Any]

    def of(self, rows: NDArray[Any]) -> "OriginFolds":
        """Return the folds of the images of `rows`, row numbers or (N,) bool."""
        return OriginFolds(self.origins, self.test[:, rows], self.train[:, rows])


class ImagesInFolds:
    """Images in `folds` (N,) int, or in `origin_folds`, where a fold leaves an origin out."""

    folds: NDArray[Any]
    origin_folds: OriginFolds | None

    def rows_of_fold(self, fold: int) -> NDArray[Any]:
        """Return the row numbers of the images that are tested in `fold`."""
        return np.flatnonzero(self.folds == fold if self.origin_folds is None else self.origin_folds.test[fold])

    def rows_outside(self, fold: int) -> NDArray[Any]:
        """Return the row numbers of the images that are trained on when `fold` is tested."""
        return np.flatnonzero(self.folds != fold if self.origin_folds is None else self.origin_folds.train[fold])


def manifest_origin_folds(manifest: "Manifest") -> OriginFolds:
    """Return the folds of all images of a manifest, of which those of role `study` and `contrast` are in any.

    Contrast images are trained on, by strategies that say so, and never tested. An origin has a fold if the images that
    are left for training have Covid19 and another class, with some grouped fold held out; those take turns. Raise
    `NotPossible` with fewer than `FEWEST` such origins.
    """
    table = manifest.table(["role", "source", "label", "group_id", "fold_grouped"])
    roles = np.array(table["role"].to_pylist())
    groups = np.unique(np.array(table["group_id"].to_pylist()), return_inverse=True)[1]
    labels = np.array(table["label"].to_pylist(), object)  # of a contrast image None
    origins = np.array([manifest.info.origins.get(source, source) for source in table["source"].to_pylist()])
    parts, count = table["fold_grouped"].to_numpy(), manifest.info.folds
    study, used = roles == "study", np.isin(roles, ("study", "contrast"))
    left_out: list[str] = []
    test, train = [], []
    for origin in np.unique(origins[study]):
        here = used & (origins == origin)
        unrelated = used & ~np.isin(groups, groups[here])
        for turn in range(count):
            held_out = unrelated & (parts == (len(left_out) + turn) % count)
            fit = unrelated & ~held_out
            remaining = set(labels[fit & study])
            if POSITIVE_CLASS in remaining and len(remaining) > 1:
                left_out.append(str(origin))
                test.append(study & (here | held_out))
                train.append(fit)
                break
    if len(left_out) < FEWEST:
        possible = ", ".join(left_out) or "none"
        raise NotPossible(
            f"Expected at least {FEWEST} origins (hospitals or publications) for the protocol origins, without each of "
            f"which {POSITIVE_CLASS} and another class are left to train on.",
            received=f"{possible} of {', '.join(np.unique(origins[study]))}",
            advice=f"Add images of {POSITIVE_CLASS}, and of others, from another hospital, or choose another PROTOCOL.",
        )
    return OriginFolds(tuple(left_out), np.stack(test), np.stack(train))
