"""Reference statistics of a bundle: what the answers, looks and features of images of the study's kind are like.

Answers are out-of-fold ones, at the temperature in use. Distances are those of the champion's own features, which it
was trained on; that this makes them no smaller was measured: a from-scratch network of 96 pixels, trained on two
thirds of 3,376 images of the public sources, has a median distance of 33.2 on them and of 33.4 on the patients of the
last third, and 0.3 % to 0.5 % of these lie beyond the limit that one in a thousand should pass.
"""

from typing import TYPE_CHECKING

import numpy as np

from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.monitoring.reference import Reference, build_reference

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

LOOKS = {"brightness": "mean", "contrast": "std", "padding": "padding_fraction"}
"""Quantity → the manifest's column."""


def champion_reference(
    probabilities: np.ndarray, manifest: "Manifest", features: np.ndarray, groups: np.ndarray, seed: int
) -> Reference:
    """The reference of a champion from calibrated out-of-fold `probabilities` (N, 7), the manifest's study images and
    the champion's `features` (M, F) of them, whose patients are `groups` (M,). Raises `BundleError` for images of one
    patient alone."""
    table = manifest.table(["role", *LOOKS.values()])
    study = np.array(table["role"].to_pylist()) == "study"
    looks = {quantity: table[column].to_numpy()[study] for quantity, column in LOOKS.items()}
    return build_reference(
        confidence=probabilities.max(axis=1),
        covid19=probabilities[:, CLASSES.index(POSITIVE_CLASS)],
        labels=probabilities.argmax(axis=1),
        features=features,
        groups=groups,
        seed=seed,
        **looks,
    )
