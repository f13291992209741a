"""Models of the probes: features by the frozen ImageNet backbone, and classifiers of features or of metadata.

The backbone was never trained on radiographs. A classifier predicts images of the folds that it was not fitted to.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.labels import CLASSES
from cxr_platform.models.frozen import FrozenBackbone, chunks, view_transforms
from cxr_platform.training.image_files import ImageFile

CUT = "features"
TITLE = "Frozen features"
BLACK = 0

Make = Callable[[], Any]
"""Returns an unfitted classifier."""

REGULARISATION, TOLERANCE, ITERATIONS = 0.1, 1e-2, 2000
"""With frozen features of the public collections, 7-class accuracy is within half a point of that with scikit-learn's
tolerance of 1e-4, in a tenth of the time."""

TREES = 100


def image_features(images: Array | ImageFile, opened: OpenStudy, title: str = TITLE) -> Array:
    """Return spatial means of the last feature maps: uint8 (N, S, S) → float32 (N, F), F = 1280 at full width.

    Raise `WeightsError` without ImageNet weights.
    """
    profile, backbone = opened.profile, _backbone(opened)
    clean = view_transforms(len(images), images.shape[1], profile.augmentation, profile.seed)[0]
    parts = []
    for rows in chunks(len(images)):
        parts.append(backbone.activations(images[rows], clean[rows])[CUT].astype("float32"))
        opened.progress.step(title, min(rows.stop, len(images)), len(images))
    return np.concatenate(parts)


@lru_cache(maxsize=1)  # compiled once for whole and masked images
def _backbone(opened: OpenStudy) -> FrozenBackbone:
    return FrozenBackbone((CUT,), opened.profile.model, opened.imagenet)


@lru_cache(maxsize=1)  # used by several analyses
def whole_image_features(opened: OpenStudy) -> Array:
    """Return `image_features` of the study's images without a mask."""
    return image_features(opened.data.images, opened, f"{TITLE}, whole image")


def without_lungs(images: Array, lungs: Array) -> Array:
    """Return the images (N, S, S) uint8 with the lungs (N, S, S) bool set to black."""
    return np.where(lungs, np.uint8(BLACK), images)


def lungs_only(images: Array, lungs: Array) -> Array:
    """Return the images (N, S, S) uint8 with everything but the lungs (N, S, S) bool set to black."""
    return np.where(lungs, images, np.uint8(BLACK))


def on_features() -> Any:
    """Return the classifier of frozen features: logistic regression of scaled values, without randomness."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=REGULARISATION, tol=TOLERANCE, max_iter=ITERATIONS)
    return make_pipeline(StandardScaler(), regression)


def on_metadata(seed: int) -> Any:
    """Return the classifier of metadata: a random forest, which finds thresholds such as 224 pixels without scaling."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(TREES, min_samples_leaf=2, random_state=seed)


def fitted(make: Make, values: Array, answers: Array) -> Any:
    """Return a classifier fitted to `values` (N, F) and `answers` (N,); one answer gives a constant."""
    from sklearn.dummy import DummyClassifier

    model = make() if len(np.unique(answers)) > 1 else DummyClassifier(strategy="most_frequent")
    return model.fit(values, answers)


def class_probabilities(model: Any, values: Array) -> Array:
    """Return probabilities (N, 7) float32 of a classifier of positions in `CLASSES`; 0 for unknown classes."""
    probabilities = np.zeros((len(values), len(CLASSES)), "float32")
    probabilities[:, model.classes_] = model.predict_proba(values)
    return probabilities


def out_of_fold_probabilities(make: Make, values: Array, labels: Array, folds: Array) -> Array:
    """Return probabilities (N, 7) float32 of each image by a classifier fitted to the other folds."""
    probabilities = np.zeros((len(values), len(CLASSES)), "float32")
    for fold in np.unique(folds):
        test = folds == fold
        probabilities[test] = class_probabilities(fitted(make, values[~test], labels[~test]), values[test])
    return probabilities


def out_of_fold_answers(make: Make, values: Array, answers: Array, folds: Array) -> Array:
    """Return the most probable of any `answers` (N,) for each image, by a classifier fitted to the other folds."""
    predicted = answers.copy()
    for fold in np.unique(folds):
        test = folds == fold
        predicted[test] = fitted(make, values[~test], answers[~test]).predict(values[test])
    return predicted
