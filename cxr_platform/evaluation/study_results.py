"""Everything that a report says of one study, computed once from its predictions."""

from collections.abc import Mapping
from dataclasses import dataclass

from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.metrics import (
    Results,
    StrategyResult,
    difference,
    evaluate,
    folds_ahead,
    majority_accuracy,
    source_counts,
)
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.association import single_source


@dataclass(frozen=True)
class Decision:
    """The winner and the second. `decided_by` is a measure, `"nothing"` for a full tie or an only strategy.

    `tied` are all strategies that the rule does not part from the winner, in the paper's order, without it.
    """

    winner: str
    runner_up: str | None
    margin_points: float | None
    decided_by: str
    folds_ahead: int | None
    tied: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class StudyResults:
    """`strategies`: figures by name, in the paper's order; `counts` are images by class, then source."""

    study: StudyRecord
    counts: Mapping[str, Mapping[str, int]]
    strategies: Mapping[str, StrategyResult]

    @property
    def images(self) -> int:
        """Images that every strategy was tested on."""
        return sum(n for by_source in self.counts.values() for n in by_source.values())

    @property
    def ranking(self) -> list[StrategyResult]:
        """Best first by the paper's rule."""
        return ranking(self.strategies)

    @property
    def decision(self) -> Decision:
        """The winner and the second by the paper's rule."""
        return decide(self.strategies)

    @property
    def best(self) -> StrategyResult:
        """The winner's figures."""
        return self.strategies[self.decision.winner]

    @property
    def majority_accuracy(self) -> float | None:
        """7-class accuracy, in percent, of always answering the most frequent class."""
        return majority_accuracy(self.best.matrix)

    @property
    def only_source(self) -> str | None:
        """The source of all images, where there is only one."""
        sources = {source for by_source in self.counts.values() for source in by_source}
        return sources.pop() if len(sources) == 1 else None

    @property
    def single_source(self) -> dict[str, str]:
        """Classes whose images all come from one source, with that source."""
        return single_source(self.counts)


def compute_study_results(study: StudyRecord, predictions: Predictions) -> StudyResults:
    """Compute the figures of every strategy of `study`."""
    results = {name: evaluate(predictions, name) for name in study.strategies}
    return StudyResults(study, source_counts(predictions), results)


# Which strategy is best by the paper's rule (§2.5).


RULE = "the highest mean 7-class accuracy, then the highest mean specificity, compared to the printed digit (§2.5)"


RULE_ORDER = ("accuracy_7_class", "specificity")


PRINTED_DIGITS = 2


def ranking(results: Results) -> list[StrategyResult]:
    """Best first. Full ties keep the paper's order, in which the strategy that trains fewer layers stands first."""
    return sorted(results.values(), key=_merit, reverse=True)


def decide(results: Results) -> Decision:
    """Name the winner of at least one result; the margin is in points of mean 7-class accuracy."""
    first, *others = ranking(results)
    if not others:
        return Decision(first.strategy, None, None, "nothing", None)
    second = others[0]
    margin = difference(first.mean.accuracy_7_class, second.mean.accuracy_7_class)
    level = tuple(other.strategy for other in others if _merit(other) == _merit(first))
    ahead = folds_ahead(first, second)
    return Decision(first.strategy, second.strategy, margin, _decided_by(first, second), ahead, level)


def _merit(result: StrategyResult) -> list[float]:
    """What the rule compares, at the printed digit; an undefined measure ranks below every defined one."""
    measures = (result.mean[name] for name in RULE_ORDER)
    return [-1.0 if m is None else round(m, PRINTED_DIGITS) for m in measures]


def _decided_by(first: StrategyResult, second: StrategyResult) -> str:
    for name, a, b in zip(RULE_ORDER, _merit(first), _merit(second), strict=True):
        if a != b:
            return name
    return "nothing"
