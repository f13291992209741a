"""Areas under the curves of Covid19 against the rest, for many weightings of the same images at once.

Both equal scikit-learn's `roc_auc_score` and `average_precision_score` with `sample_weight`; equal scores count as
scikit-learn counts them. They are written out because 2,000 replicates of a study's images through scikit-learn, one by
one, would take minutes for each strategy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Ranked:
    """N images ordered once by `scores` (N,); `positive` (N,) bool says which are Covid19."""

    def __init__(self, scores: "np.ndarray", positive: "np.ndarray"):
        import numpy as np

        order = np.argsort(-scores, kind="stable")
        falling = -scores[order]  # ascending, which searchsorted asks for
        self._positives, self._negatives = order[positive[order]], order[~positive[order]]
        of_positives, of_negatives = falling[positive[order]], falling[~positive[order]]
        # For each positive image, how many negatives score higher, and how many as high or higher; likewise positives
        self._above = np.searchsorted(of_negatives, of_positives, side="left")
        self._level = np.searchsorted(of_negatives, of_positives, side="right")
        self._found = np.searchsorted(of_positives, of_positives, side="right")

    def areas(self, weights: "np.ndarray") -> "np.ndarray":
        """(r, 2): area under the ROC curve and average precision, for weights (r, N); NaN without images of a side."""
        import numpy as np

        positive = weights[:, self._positives].astype(float)
        below = _cumulated(weights[:, self._negatives])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([self._roc(positive, below), self._precision(positive, below)], axis=1)

    def _roc(self, positive: "np.ndarray", false: "np.ndarray") -> "np.ndarray":
        """The share of pairs in which the positive image scores higher; a tie counts half (Hanley & McNeil 1982)."""
        beaten_by = (false[:, self._above] + false[:, self._level]) / 2
        return 1 - (positive * beaten_by).sum(axis=1) / (positive.sum(axis=1) * false[:, -1])

    def _precision(self, positive: "np.ndarray", false: "np.ndarray") -> "np.ndarray":
        """Precision at the score of each positive image, averaged over them; undefined without a negative image."""
        import numpy as np

        true = _cumulated(positive)[:, self._found]
        called = true + false[:, self._level]
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        average = (positive * precision).sum(axis=1) / positive.sum(axis=1)
        return np.where(false[:, -1] > 0, average, np.nan)


def _cumulated(weights: "np.ndarray") -> "np.ndarray":
    """(r, n + 1) sums of the first 0 … n columns."""
    import numpy as np

    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:], dtype=float)
    return sums
