"""The winner against every other strategy on the same images: what is more than chance."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import Comparison
from cxr_platform.evaluation.formatting import joined, p_text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from cxr_platform.evaluation.statistics.comparison import compare
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "comparison", "The winner against the others"
ALONE = "Only one strategy was run: there is nothing to compare it with."
METHOD = (
    "Told apart means both: the 95 % interval of the difference leaves out 0, and McNemar's exact test, corrected by "
    "Holm's method for all comparisons here, stays below 0.05. Both look at the same images under both strategies. They "
    "compare the networks that were trained, once each; training again could turn a small difference round. The winner "
    "was picked on these images, which favours it a little."
)
NOTE = (
    "Difference: 7-class accuracy of the winner less that of the other, all images counted once, 95 % interval by "
    "paired bootstrap over patients. McNemar's test takes images one by one: where patients have several images its p is "
    "somewhat too small, the interval is not affected."
)


def find(inputs: ReportInputs) -> tuple[Comparison, ...]:
    """One comparison for each other strategy, best first by the paper's rule."""
    bootstrap = study_bootstrap(inputs.study, inputs.predictions)
    compared = {c.other: c for c in compare(inputs.predictions, inputs.results.decision.winner, bootstrap)}
    return tuple(compared[r.strategy] for r in inputs.results.ranking if r.strategy in compared)


def section(inputs: ReportInputs, found: Sequence[Comparison]) -> Section:
    """Who is told apart from the winner, and by how much."""
    if not found:
        return Section(NAME, TITLE, absent=ALONE)
    values = {"winner": found[0].winner, "others": [{**asdict(c), "significant": c.significant} for c in found]}
    table = _table(found, inputs.synthetic)
    return Section(NAME, TITLE, lead=(_verdict(found), METHOD), tables=(table,), values=values)


def _verdict(found: Sequence[Comparison]) -> str:
    winner = TITLES[found[0].winner]
    apart, level = _named(c for c in found if c.significant), _named(c for c in found if not c.significant)
    if not level:
        return f"{winner} is told apart from every other strategy."
    undecided = f"not from {joined(level)}: which of these and the winner is best, this study does not decide."
    if not apart:
        return f"{winner} is {undecided.replace('not from', 'not told apart from')}"
    return f"{winner} is told apart from {joined(apart)}, but {undecided}"


def _named(comparisons: Iterable[Comparison]) -> list[str]:
    return [TITLES[c.other].lower() for c in comparisons]


def _table(found: Sequence[Comparison], synthetic: bool) -> Table:
    rows = [
        Row(
            (TITLES[c.other],),
            (c.difference, p_text(c.p_value), p_text(c.p_adjusted), "yes" if c.significant else "no"),
        )
        for c in found
    ]
    columns = ("difference (points)", "McNemar", "after Holm", "told apart")
    title = f"{TITLES[found[0].winner]} less each other strategy"
    return Table("comparison", title, ("Other strategy",), columns, tuple(rows), NOTE, synthetic)
