"""Measures out of many confusion matrices at once: one for each replicate, or each fold."""

from typing import TYPE_CHECKING

from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

COUNTED = (
    "accuracy_7_class",
    "balanced_accuracy",
    "macro_f1",
    "accuracy_2_class",
    "sensitivity",
    "specificity",
)
"""The columns of `from_matrices`: percent, macro F1 from 0 to 1."""


def cells(label: "np.ndarray", predicted: "np.ndarray") -> "np.ndarray":
    """(N, 49) float32 with one 1 a row: the cell of the confusion matrix in which each image stands."""
    import numpy as np

    size = len(CLASSES)
    return np.eye(size * size, dtype=np.float32)[label * size + predicted]


def from_matrices(matrices: "np.ndarray") -> "np.ndarray":
    """(r, 6) values of `COUNTED` out of (r, 7, 7) weighted counts, rows actual; NaN where undefined.

    Balanced accuracy and macro F1 are means over the classes that have images, as `balanced_accuracy_score`, and
    `f1_score` given those labels, of scikit-learn.
    """
    import numpy as np

    matrices = matrices.astype(float)
    right, actual, called = matrices.trace(axis1=1, axis2=2), matrices.sum(axis=2), matrices.sum(axis=1)
    whole, diagonal = actual.sum(axis=1), matrices.diagonal(axis1=1, axis2=2)
    covid = CLASSES.index(POSITIVE_CLASS)
    found, missed = diagonal[:, covid], actual[:, covid] - diagonal[:, covid]
    others, alarms = whole - actual[:, covid], called[:, covid] - diagonal[:, covid]
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [
            100 * right / whole,
            100 * _over_classes(diagonal / actual, actual),
            _over_classes(2 * diagonal / (actual + called), actual),
            100 * (whole - missed - alarms) / whole,
            100 * found / actual[:, covid],
            100 * (others - alarms) / others,
        ]
    return np.stack(columns, axis=1)


def _over_classes(values: "np.ndarray", actual: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.where(actual > 0, values, 0).sum(axis=1) / (actual > 0).sum(axis=1)
