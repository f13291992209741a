"""The winner compared with every other strategy on the same images, with tests of significance."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import StrategyComparison
from cxr_platform.evaluation.formatting import joined, p_text
from cxr_platform.evaluation.predictions import Array, Predictions
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_bootstrap
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "comparison", "The winner compared with the other strategies"

METHOD = (
    "A difference is significant if its 95 % confidence interval excludes 0 and the p-value of McNemar's exact test, "
    "corrected by Holm's method for all comparisons here, is below 0.05. Both look at the same images under both "
    "strategies. They compare the networks that were trained, once each; training again could reverse a small "
    "difference. The winner was chosen on these images, which favours it a little."
)
NOTE = (
    "Difference: 7-class accuracy of the winner minus that of the other strategy, each image counted once, with its 95 "
    "% confidence interval by paired bootstrap over patients. McNemar's test counts images one by one: where patients "
    "have several images its p-value is somewhat too small; the interval is not affected."
)


def compute(inputs: ReportInputs) -> tuple[StrategyComparison, ...]:
    """Return one comparison for each strategy but the winner, in the order of the ranking."""
    bootstrap = study_bootstrap(inputs.study, inputs.predictions)
    by_strategy = {c.other: c for c in compare(inputs.predictions, inputs.results.decision.winner, bootstrap)}
    return tuple(by_strategy[r.strategy] for r in inputs.results.ranking if r.strategy in by_strategy)


def compare(predictions: Predictions, winner: str, bootstrap: Bootstrap) -> tuple[StrategyComparison, ...]:
    """Compare `winner` with each other strategy of `predictions`, in their order, by 7-class accuracy.

    McNemar's exact test treats images as independent: where patients have several images, its p value is somewhat too
    small. The bootstrap of the difference resamples patients. Holm's correction limits the probability of at least one
    false positive among all comparisons to 5 %.
    """
    others = [name for name in predictions.probability if name != winner]
    correct = {name: correct_images(predictions, name) for name in (winner, *others)}
    p_values = [mcnemar_p(correct[winner], correct[other]) for other in others]
    return tuple(
        StrategyComparison(winner, other, bootstrap.difference(correct[winner], correct[other]), p, adjusted)
        for other, p, adjusted in zip(others, p_values, holm(p_values), strict=True)
    )


def correct_images(predictions: Predictions, strategy: str) -> Array:
    """Return (N,) bool: True where the most probable class is the label."""
    correct: Array = predictions.probability[strategy].argmax(axis=1) == predictions.label
    return correct


def mcnemar_p(correct_a: Array, correct_b: Array) -> float:
    """Return McNemar's exact two-sided p value of two classifiers, from where each is correct: (N,) bool.

    The p value is 1 if both are correct on the same images.
    """
    table = np.array([[(a & b).sum() for b in (correct_b, ~correct_b)] for a in (correct_a, ~correct_a)])
    if table[0, 1] + table[1, 0] == 0:
        return 1.0
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Return `p_values` corrected for multiple comparisons (Holm 1979)."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def render(inputs: ReportInputs, comparisons: Sequence[StrategyComparison]) -> Section:
    """Return the section: from which strategies the winner differs significantly, and by how much."""
    if not comparisons:
        return Section(NAME, TITLE, absent="Only one strategy was run, so that there is nothing to compare.")
    others = [{**asdict(c), "significant": c.significant} for c in comparisons]
    return Section(
        NAME,
        TITLE,
        lead=(_significance_sentence(comparisons), METHOD),
        tables=(_table(comparisons, inputs.synthetic),),
        values={"winner": comparisons[0].winner, "others": others},
    )


def _significance_sentence(comparisons: Sequence[StrategyComparison]) -> str:
    winner = TITLES[comparisons[0].winner]
    different = _titles(c for c in comparisons if c.significant)
    not_different = _titles(c for c in comparisons if not c.significant)
    if not not_different:
        return f"{winner} differs significantly from every other strategy."
    undecided = f"from {joined(not_different)}: this study does not decide which of these is the best strategy."
    if not different:
        return f"{winner} does not differ significantly {undecided}"
    return f"{winner} differs significantly from {joined(different)}, but not {undecided}"


def _titles(comparisons: Iterable[StrategyComparison]) -> list[str]:
    return [TITLES[c.other].lower() for c in comparisons]


def _table(comparisons: Sequence[StrategyComparison], synthetic: bool) -> Table:
    rows = []
    for c in comparisons:
        verdict = "yes" if c.significant else "no"
        rows.append(Row((TITLES[c.other],), (c.difference, p_text(c.p_value), p_text(c.p_adjusted), verdict)))
    columns = ("difference (points)", "McNemar's test", "after Holm's correction", "significant")
    title = f"{TITLES[comparisons[0].winner]} minus each other strategy"
    return Table("comparison", title, ("Other strategy",), columns, tuple(rows), NOTE, synthetic)
