"""Differences of accuracy between strategies, and the accuracy of the best of several, tested on the same images.

The winner is picked on the images that it is compared on. Of eight equal strategies the best one differs from some
other "significantly" in one study of eight if only the pairs with the winner are corrected for. All pairs are therefore
tested here: an error anywhere among them has a probability of about 5 %, whichever strategy is picked. The accuracy of
the winner is too high for the same reason; `picked_accuracy` estimates by how much.

`cxr benchmark statistics` simulates how often these statements are wrong.
"""

from dataclasses import dataclass

import numpy as np

from cxr_platform.domain.interval import LEVEL, Interval
from cxr_platform.evaluation.findings import PickedAccuracy
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap


@dataclass(frozen=True, eq=False)
class PairTests:
    """All P pairs of strategies: positions `first` < `second`, each (P,), as all other arrays.

    `difference` is the accuracy of the first minus that of the second, in points, and `margin` half the width of its
    interval; 95 % of studies have all P differences within their intervals at once. `p_value` is of the sign test over
    groups, `p_adjusted` after Holm's correction over the P pairs. `margin` is NaN with fewer than two groups.
    """

    first: Array
    second: Array
    difference: Array
    margin: Array
    p_value: Array
    p_adjusted: Array

    def interval(self, pair: int, *, reverse: bool = False) -> Interval:
        """Return the difference of a pair, second minus first if `reverse`, with its interval."""
        value, margin = float(self.difference[pair]) * (-1 if reverse else 1), float(self.margin[pair])
        if np.isnan(margin):
            return Interval(value, signed=True)
        return Interval(value, value - margin, value + margin, signed=True)


def compare_pairs(correct: Array, bootstrap: Bootstrap) -> PairTests:
    """Compare every two of S ≥ 2 strategies from where each is correct: (N, S) bool.

    The intervals are those of the studentised maximum over all pairs (max-T; Westfall & Young 1993), from replicates
    that draw groups, not images.
    """
    first, second = np.triu_indices(correct.shape[1], k=1)
    values = np.column_stack([correct, np.ones(len(correct))])
    sums = bootstrap.group_sums(values)
    shares = 100 * sums[:, :-1].sum(axis=0) / sums[:, -1].sum()
    difference = shares[first] - shares[second]
    margin = np.full(len(first), np.nan)
    if bootstrap.groups > 1:
        margin = simultaneous_margins(bootstrap.totals(values), difference, first, second)
    p_values = sign_test((sums[:, first] - sums[:, second]).astype(int))
    return PairTests(first, second, difference, margin, p_values, holm(p_values))


def holm(p_values: Array) -> Array:
    """Return p values (P,) corrected for P tests (Holm 1979).

    statsmodels' `multipletests` gives the same, but collects garbage in each call, which takes longer than the tests.
    """
    order = np.argsort(p_values)
    steps = np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * steps))
    return corrected


def simultaneous_margins(totals: Array, difference: Array, first: Array, second: Array) -> Array:
    """Return (P,) half widths of the intervals of P differences, all of which hold at once in 95 % of studies (max-T).

    `totals` (R, S + 1) are those of the replicates, the last column counts images; `first` and `second` (P,) are
    columns.
    """
    shares = 100 * totals[:, :-1] / totals[:, -1:]
    errors = shares[:, first] - shares[:, second] - difference
    deviation = errors.std(axis=0)
    varies = deviation > 0  # strategies that are correct on the same images do not differ in any replicate
    if not varies.any():
        return np.zeros(len(difference))
    largest = np.abs(errors[:, varies] / deviation[varies]).max(axis=1)
    margins: Array = np.quantile(largest, LEVEL) * deviation
    return margins


def sign_test(gaps: Array) -> Array:
    """Return (P,) two-sided p values from integers (G, P): the balance of each group between two classifiers.

    The balance is the number of the group's images that only the first has right, minus those that only the second has
    right. If the two are equally good, each group's balance could as well have the other sign. The distribution of the
    sum over all 2**G changes of sign is exact; half the probability of the observed sum counts (mid-p). With one image
    per group this is McNemar's mid-p test (Fagerland, Lydersen & Laake 2013, BMC Med. Res. Methodol. 13:91). Unlike
    McNemar's, it stays valid if the images of a patient are alike. Values below about 1e-14 are rounding errors.
    """
    sizes = np.abs(gaps)
    highest, largest = int(sizes.sum(axis=0).max(initial=0)), int(sizes.max(initial=0))
    length = 2 * highest + 1
    angles = 2 * np.pi * np.arange(highest + 1) / length
    spectrum = np.ones((len(angles), gaps.shape[1]))
    for size in range(1, largest + 1):
        spectrum *= np.cos(size * angles)[:, None] ** (sizes == size).sum(axis=0)
    # The characteristic function of a sum of independent ±size is the product of cosines; its inverse has the
    # probabilities of the sums 0, 1, …, `highest` first.
    probability = np.fft.irfft(spectrum, length, axis=0)[: highest + 1]
    at_least = probability[::-1].cumsum(axis=0)[::-1]
    observed = np.abs(gaps.sum(axis=0)), np.arange(gaps.shape[1])
    p_values: Array = np.clip(2 * at_least[observed] - probability[observed], 0.0, 1.0)
    return p_values


def picked_accuracy(correct: Array, picked: int, bootstrap: Bootstrap) -> PickedAccuracy:
    """Return the accuracy of the strategy at position `picked`, corrected for its having been picked on these images.

    `correct` (N, S) says where each of the S strategies is correct. Each replicate picks the best strategy anew; the
    optimism is the mean error of the accuracy that it picks. Accuracies measured on few images lie further apart than
    the true ones, which would make the pick look too easy: the replicates therefore start from accuracies whose
    distances are reduced to what chance does not explain. Nothing is corrected with one strategy or one group.
    """
    measured = bootstrap.rate(correct[:, picked])
    if correct.shape[1] < 2 or bootstrap.groups < 2:
        return PickedAccuracy(measured, 0.0, correct.shape[1])
    values = np.column_stack([correct, np.ones(len(correct))])
    totals, shares = bootstrap.totals(values), 100 * correct.mean(axis=0)
    errors = 100 * totals[:, :-1] / totals[:, -1:] - shares
    observed, by_chance = shares.var(ddof=1), errors.var(axis=1, ddof=1).mean()
    kept = np.sqrt(max(0.0, 1 - by_chance / observed)) if observed > 0 else 0.0
    drawn = shares.mean() + kept * (shares - shares.mean()) + errors
    optimism = float(errors[np.arange(len(errors)), drawn.argmax(axis=1)].mean())
    # Picking cannot lower the accuracy of what is picked: a negative value is noise of the replicates.
    return PickedAccuracy(measured, max(0.0, optimism), correct.shape[1])
