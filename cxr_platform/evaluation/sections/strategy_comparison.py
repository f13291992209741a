"""The winner compared with every other strategy on the same images, and how much being picked raised its accuracy."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import PickedAccuracy, StrategyComparison
from cxr_platform.evaluation.formatting import joined, p_text, percent, rate, text
from cxr_platform.evaluation.predictions import Array, Predictions
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_bootstrap
from cxr_platform.evaluation.statistics.comparison import compare_pairs, picked_accuracy
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "comparison", "The winner compared with the other strategies"

METHOD = (
    "The winner was chosen on the images that it is compared on. Intervals and tests therefore hold for all pairs of "
    "strategies at once, whichever is chosen: with eight equal strategies about 4 % of studies find a difference that "
    "is not there. A difference is significant if its 95 % confidence interval excludes 0 and the p-value of the sign "
    "test, corrected by Holm's method for all pairs, is below 0.05. Both compare the networks that were trained, once "
    "each; training again could reverse a small difference."
)
NOTE = (
    "Difference: 7-class accuracy of the winner minus that of the other strategy, each image counted once. Its 95 % "
    "confidence interval comes from the largest standardised difference of all pairs (max-T) in a paired bootstrap "
    "over patients. Sign test: exact test (mid-p) of whether patients have more images that only the winner has right "
    "or more that only the other strategy has right; the images of a patient count together."
)


@dataclass(frozen=True)
class ComparisonResults:
    """One comparison for each strategy but the winner, in the order of the ranking, and the winner's accuracy.

    Without another strategy there is no comparison and no correction.
    """

    comparisons: tuple[StrategyComparison, ...] = ()
    picked: PickedAccuracy | None = None


def compute(inputs: ReportInputs) -> ComparisonResults:
    """Compare the winner with every other strategy, and correct its accuracy for its having been picked."""
    predictions, winner = inputs.predictions, inputs.results.decision.winner
    if len(predictions.probability) < 2:
        return ComparisonResults()
    bootstrap = study_bootstrap(inputs.study, predictions)
    by_strategy = {c.other: c for c in compare(predictions, winner, bootstrap)}
    ranked = tuple(by_strategy[r.strategy] for r in inputs.results.ranking if r.strategy in by_strategy)
    position = list(predictions.probability).index(winner)
    return ComparisonResults(ranked, picked_accuracy(correct_images(predictions), position, bootstrap))


def compare(predictions: Predictions, winner: str, bootstrap: Bootstrap) -> tuple[StrategyComparison, ...]:
    """Compare `winner` with each other strategy of at least two, in their order, by 7-class accuracy."""
    names = list(predictions.probability)
    tests, position = compare_pairs(correct_images(predictions), bootstrap), names.index(winner)
    comparisons = []
    for pair, (first, second) in enumerate(zip(tests.first.tolist(), tests.second.tolist(), strict=True)):
        if position in (first, second):
            other = names[second if first == position else first]
            difference = tests.interval(pair, reverse=second == position)
            p, adjusted = float(tests.p_value[pair]), float(tests.p_adjusted[pair])
            comparisons.append(StrategyComparison(winner, other, difference, p, adjusted, len(tests.first)))
    return tuple(comparisons)


def correct_images(predictions: Predictions) -> Array:
    """Return (N, S) bool: True where the most probable class of a strategy is the label."""
    return np.stack([p.argmax(axis=1) == predictions.label for p in predictions.probability.values()], axis=1)


def render(inputs: ReportInputs, results: ComparisonResults) -> Section:
    """Return the section: from which strategies the winner differs significantly, and by how much."""
    comparisons, picked = results.comparisons, results.picked
    if picked is None:
        return Section(NAME, TITLE, absent="Only one strategy was run, so that there is nothing to compare.")
    others = [{**asdict(c), "significant": c.significant} for c in comparisons]
    return Section(
        NAME,
        TITLE,
        lead=(_significance_sentence(comparisons), _picked_sentence(comparisons[0].winner, picked), METHOD),
        tables=(_table(comparisons, inputs.synthetic),),
        values={
            "winner": comparisons[0].winner,
            "others": others,
            "picked": {**asdict(picked), "corrected": asdict(picked.corrected)},
        },
    )


def _picked_sentence(winner: str, picked: PickedAccuracy) -> str:
    return (
        f"The accuracy of the best of {picked.strategies} strategies is too high if it is measured on the images that "
        f"it was picked on. For {TITLES[winner].lower()} a bootstrap of the pick estimates this optimism at "
        f"{text(picked.optimism)} points: {percent(picked.measured.value)} were measured, and {rate(picked.corrected)} "
        "are to be expected on other images of the same sources."
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
    pairs = comparisons[0].pairs
    corrected = "corrected" if pairs == 1 else f"corrected for {pairs} pairs"
    columns = ("difference (points)", "sign test", corrected, "significant")
    title = f"{TITLES[comparisons[0].winner]} minus each other strategy"
    return Table("comparison", title, ("Other strategy",), columns, tuple(rows), NOTE, synthetic)
