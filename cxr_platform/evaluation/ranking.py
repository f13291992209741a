"""Which strategy is best by the paper's rule (§2.5)."""

from dataclasses import dataclass

from cxr_platform.evaluation.metrics import Results, StrategyResult, difference, folds_ahead

RULE = "the highest mean 7-class accuracy, then the highest mean specificity, compared to the printed digit (§2.5)"
RULE_ORDER = ("accuracy_7_class", "specificity")
PRINTED_DIGITS = 2


@dataclass(frozen=True)
class Verdict:
    """The winner and the second. `decided_by` is a measure, `"nothing"` for a full tie or an only strategy.

    `level` are all strategies that the rule does not part from the winner, in the paper's order, without it.
    """

    winner: str
    runner_up: str | None
    margin_points: float | None
    decided_by: str
    folds_ahead: int | None
    level: tuple[str, ...] = ()


def ranking(results: Results) -> list[StrategyResult]:
    """Best first. Full ties keep the paper's order, in which the strategy that trains fewer layers stands first."""
    return sorted(results.values(), key=_merit, reverse=True)


def verdict(results: Results) -> Verdict:
    """Name the winner of at least one result; the margin is in points of mean 7-class accuracy."""
    first, *others = ranking(results)
    if not others:
        return Verdict(first.strategy, None, None, "nothing", None)
    second = others[0]
    margin = difference(first.mean.accuracy_7_class, second.mean.accuracy_7_class)
    level = tuple(other.strategy for other in others if _merit(other) == _merit(first))
    ahead = folds_ahead(first, second)
    return Verdict(first.strategy, second.strategy, margin, _decided_by(first, second), ahead, level)


def _merit(result: StrategyResult) -> list[float]:
    """What the rule compares, at the printed digit; an undefined measure ranks below every defined one."""
    measures = (result.mean[name] for name in RULE_ORDER)
    return [-1.0 if m is None else round(m, PRINTED_DIGITS) for m in measures]


def _decided_by(first: StrategyResult, second: StrategyResult) -> str:
    for name, a, b in zip(RULE_ORDER, _merit(first), _merit(second), strict=True):
        if a != b:
            return name
    return "nothing"
