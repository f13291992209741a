"""The classifiers of the probes, and their answers for images outside the folds that they were fitted on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.labels import CLASSES

Make = Callable[[], Any]

REGULARISATION, TOLERANCE, ITERATIONS = 0.1, 1e-2, 2000
"""On frozen features of the public collections 7-class accuracy is the same within half a point as where the search is
carried to its end (scikit-learn's tolerance of 1e-4), in a tenth of the time."""

TREES = 100


def on_features() -> Any:
    """The recipe for pixels: scaled frozen features in a logistic regression. There is no chance in it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=REGULARISATION, tol=TOLERANCE, max_iter=ITERATIONS)
    return make_pipeline(StandardScaler(), regression)


def on_metadata(seed: int) -> Any:
    """The recipe for metadata: a random forest, which needs no scaling and finds thresholds such as 224 pixels."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(TREES, min_samples_leaf=2, random_state=seed)


def fitted(make: Make, values: np.ndarray, answers: np.ndarray) -> Any:
    """The classifier fitted to `values` (N, F) and `answers` (N,); one that knows a single answer always gives it."""
    from sklearn.dummy import DummyClassifier

    model = make() if len(np.unique(answers)) > 1 else DummyClassifier(strategy="most_frequent")
    return model.fit(values, answers)


def class_probabilities(model: Any, values: np.ndarray) -> np.ndarray:
    """Probabilities (N, 7) float32 of a classifier of positions in `CLASSES`; 0 for a class that it never saw."""
    probabilities = np.zeros((len(values), len(CLASSES)), "float32")
    probabilities[:, model.classes_] = model.predict_proba(values)
    return probabilities


def out_of_fold_probabilities(make: Make, values: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Probabilities (N, 7) float32 of each image, by a classifier fitted to the images of the other folds."""
    probabilities = np.zeros((len(values), len(CLASSES)), "float32")
    for fold in np.unique(folds):
        test = folds == fold
        probabilities[test] = class_probabilities(fitted(make, values[~test], labels[~test]), values[test])
    return probabilities


def out_of_fold_answers(make: Make, values: np.ndarray, answers: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """As `out_of_fold_probabilities`, the likeliest of any kind of answers (N,)."""
    found = answers.copy()
    for fold in np.unique(folds):
        test = folds == fold
        found[test] = fitted(make, values[~test], answers[~test]).predict(values[test])
    return found


def probability_columns(probabilities: np.ndarray) -> dict[str, pa.Array]:
    """Probabilities (N, 7) as the columns `p_CLASS` of a table."""
    return {name: pa.array(probabilities[:, i]) for i, name in enumerate(PROBABILITY_COLUMNS)}
