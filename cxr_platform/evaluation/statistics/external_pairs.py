"""AUC of Covid19 of each external source against the other images of each, by networks that were trained on neither.

The other images of a source are apart by class, or by finding if that is none of the seven classes. Sources of one
origin are one side.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import SMALL, ExternalPair
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.external import ensemble_probabilities
from cxr_platform.evaluation.statistics.hospitals import SCORE, RankedPairs, large_pairs, with_corrected_p
from cxr_platform.evaluation.statistics.outside import stated_findings
from cxr_platform.evaluation.statistics.unseen_origins import PairScores, areas_of, pair_intervals
from cxr_platform.labels import POSITIVE_CLASS

OTHER_FINDINGS = "other findings"
"""Findings of an origin with fewer than `SMALL` patients each, together."""

Key: TypeAlias = tuple[str, str, str]
"""Origin of the images with Covid19, origin of the others, and their class or finding."""


@dataclass(frozen=True)
class ExternalPairs:
    """The pairs of one strategy, and the `mean` AUC of those that are `counted`.

    These are of two origins, of which the study has neither, with at least `SMALL` patients on both sides, or all such
    pairs if none has as many.
    `difference` is the mean minus the one of the strategy compared with.
    """

    strategy: str
    pairs: tuple[ExternalPair, ...]
    counted: tuple[ExternalPair, ...]
    mean: Interval
    difference: Interval


def external_pairs(
    frame: pd.DataFrame,
    origin_of: Mapping[str, str],
    studied: Set[str],
    strategies: Sequence[str],
    compared_with: str,
    seed: int,
) -> list[ExternalPairs]:
    """Return the pairs of each strategy, in the order given; empty without Covid19, or without other images.

    `frame` has the columns of the evidence part `outside`, of images with a label or another finding; each is scored by
    the mean of its folds' models. `origin_of` maps a source to its origin; one that it does not have is its own.
    `studied` are the origins of the study's images.
    `difference` is to `compared_with`, one of the strategies. Intervals are over patients, of whom every strategy's
    replicates draw the same. The sources are not drawn again.
    """
    by_strategy = {name: ensemble_probabilities(frame[frame["strategy"] == name]) for name in strategies}
    images = by_strategy[compared_with]
    bootstrap = Bootstrap(images["group_id"].to_numpy(object), seed=seed)
    rows_of = _rows_of_pairs(images, origin_of, bootstrap)
    if not rows_of:
        return []
    ranked = {name: _ranked(name, scored, rows_of, studied, bootstrap) for name, scored in by_strategy.items()}
    counted = _counted(ranked[compared_with].pairs)  # the same for all strategies
    found = []
    for name, each in ranked.items():
        mean, difference = Interval(None, ratio=True), Interval(None, ratio=True, signed=True)
        if any(counted):
            value, drawn = each.mean(counted)
            mean = percentile_interval(value, drawn, ratio=True)
            if name != compared_with:
                reference, of_reference = ranked[compared_with].mean(counted)
                difference = percentile_interval(value - reference, drawn - of_reference, ratio=True, signed=True)
        of_mean = tuple(pair for pair, counts in zip(each.pairs, counted, strict=True) if counts)
        found.append(ExternalPairs(name, each.pairs, of_mean, mean, difference))
    return found


def _counted(pairs: Sequence[ExternalPair]) -> list[bool]:
    """Return for each pair if it counts for the mean, as `ExternalPairs` describes."""
    unseen = [not (pair.within or pair.studied) for pair in pairs]
    return large_pairs(pairs, unseen)


def _rows_of_pairs(
    images: pd.DataFrame, origin_of: Mapping[str, str], bootstrap: Bootstrap
) -> dict[Key, tuple[Array, Array]]:
    """Return the row numbers of the images with Covid19 and of the others, by pair."""
    origin = images["source"].map(lambda source: origin_of.get(source, source)).to_numpy(object)
    positive = (images["label"] == POSITIVE_CLASS).to_numpy()
    finding = _findings(images, origin, bootstrap)
    others = sorted(set(zip(origin[~positive], finding[~positive], strict=True)))
    return {
        (str(first), str(second), str(name)): (
            np.flatnonzero(positive & (origin == first)),
            np.flatnonzero(~positive & (origin == second) & (finding == name)),
        )
        for first in sorted(set(origin[positive]))
        for second, name in others
    }


def _findings(images: pd.DataFrame, origin: Array, bootstrap: Bootstrap) -> Array:
    """Return the class of each image (N,), or its finding, with those of few patients in an origin as one."""
    finding = np.array(images["label"].fillna(stated_findings(images)), dtype=object)  # a copy, which is changed
    without_class = images["label"].isna().to_numpy()
    for name in set(origin[without_class]):
        here = without_class & (origin == name)
        stated = set(finding[here])
        few = [one for one in stated if bootstrap.groups_among(here & (finding == one)) < SMALL]
        if len(few) > 1:
            finding[here & np.isin(finding, few)] = OTHER_FINDINGS
    return finding


def _ranked(
    strategy: str,
    scored: pd.DataFrame,
    rows_of: Mapping[Key, tuple[Array, Array]],
    studied: Set[str],
    bootstrap: Bootstrap,
) -> RankedPairs[ExternalPair]:
    """Return the pairs of a strategy with the replicates of their areas."""
    score = scored[SCORE].to_numpy(float)
    sides = {key: (np.concatenate(both), len(both[0])) for key, both in rows_of.items()}
    scores = {key: PairScores(rows, score[rows], np.arange(len(rows)) < n) for key, (rows, n) in sides.items()}
    areas, replicates = areas_of(scores, bootstrap)
    pairs = with_corrected_p(
        [
            ExternalPair(
                positive=key[0],
                negative=key[1],
                finding=key[2],
                studied=not studied.isdisjoint(key[:2]),
                images=len(rows_of[key][0]),
                others=len(rows_of[key][1]),
                groups=min(bootstrap.groups_among(rows) for rows in rows_of[key]),
                auc=auc,
                strategy=strategy,
            )
            for key, auc in zip(scores, pair_intervals(scores, areas, replicates, bootstrap), strict=True)
        ]
    )
    return RankedPairs(pairs, replicates)
