"""Whether the study's winner is the strategy of the champion, in a sentence with the figures of both."""

from cxr_platform.champion.facts import OutOfFold
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import joined, rate
from cxr_platform.evaluation.statistics.measures import StrategyMeasures
from cxr_platform.labels import POSITIVE_CLASS


def winner_sentence(facts: OutOfFold) -> str:
    """First of the study, level with the first, or behind: then which one won, with the figures of both."""
    verdict, ours = facts.outcome.decision, TITLES[facts.strategy].lower()
    if verdict.runner_up is None:
        return f"No other strategy was run in the study than this one, {ours}."
    if facts.winner is None and not verdict.tied:
        return f"This strategy, {ours}, won the study."
    if facts.winner is None or facts.strategy in verdict.tied:
        first = (facts.outcome.decision.winner, *verdict.tied)
        others = joined([TITLES[name].lower() for name in first if name != facts.strategy])
        return f"This strategy, {ours}, shares the first place of the study with {others}."
    return (
        f"Another strategy won the study: {TITLES[facts.winner.strategy].lower()}, {_figures(facts.winner)}. "
        f"This model is of {ours}: {_figures(facts.measures)}."
    )


def another_won(facts: OutOfFold) -> bool:
    """Whether the paper's rule puts another strategy before this one."""
    return facts.winner is not None and facts.strategy not in facts.outcome.decision.tied


def _figures(measures: StrategyMeasures) -> str:
    pooled = measures.pooled
    return (
        f"7-class accuracy {rate(pooled['accuracy_7_class'])}, {POSITIVE_CLASS} sensitivity "
        f"{rate(pooled['sensitivity'])}, specificity {rate(pooled['specificity'])}"
    )
