"""Images of external sources: scored by models that have seen no image of the source, beside cross-validation.

Each image is scored by the models of all folds; the main figure is that of their mean probabilities (an ensemble, which
tends to do a little better than one model), and the range of the single models stands beside it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cxr_platform.evaluation.findings import ExternalFinding
from cxr_platform.evaluation.formatting import count, rate, shortened, text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.rate_bars import Bar, Words, rate_bars
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.external import external_findings, fold_range, interval_values
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

if TYPE_CHECKING:
    import pandas as pd

    from cxr_platform.evaluation.pictures import Picture

NAME, TITLE = "external", "Images from elsewhere"
RULE = "Figures contradict cross-validation where the external one is lower and the two intervals do not overlap."
COLUMNS = ("images", "wrong", "external (%)", "single models (%)", "cross-validation (%)", "contradicts")


def find(inputs: ReportInputs) -> tuple[ExternalFinding, ...]:
    """Every rate that the external images allow, of all strategies, those of the winner first."""
    frame, winner = inputs.evidence.parts.get(NAME), inputs.results.decision.winner
    if frame is None:
        return ()
    strategies = sorted(inputs.study.strategies, key=lambda strategy: strategy != winner)
    return tuple(external_findings(frame, inputs.predictions, strategies, study_seed(inputs.study)))


def section(inputs: ReportInputs, found: tuple[ExternalFinding, ...]) -> Section:
    """The winner on external images, with a warning for each contradiction; all strategies in a folded table."""
    frame = inputs.evidence.parts.get(NAME)
    if frame is None or not found:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(NAME))
    winner = inputs.results.decision.winner
    best = [finding for finding in found if finding.strategy == winner]
    title = f"The winner, {winner}, on external images"
    return Section(
        NAME,
        TITLE,
        lead=(*_lead(best), *_others(found, winner)),
        pictures=(_picture(best, inputs.synthetic),),
        tables=(unseen_table("external", title, best, frame, synthetic=inputs.synthetic),),
        folded=(unseen_table("external-all", "All strategies", found, frame, synthetic=inputs.synthetic),),
        warnings=tuple(
            f"{sentence(finding)} This contradicts cross-validation." for finding in best if finding.contradicts
        ),
        values={"rule": RULE, "strategies": _values(found)},
    )


def sentence(finding: ExternalFinding) -> str:
    """What happened on the images of a source."""
    images = count(finding.images, "image", "images")
    what = {
        "sensitivity": f"{finding.wrong} of {images} of {POSITIVE_CLASS} are missed: sensitivity",
        "specificity": f"{finding.wrong} of {images} without {POSITIVE_CLASS} are called {POSITIVE_CLASS}: specificity",
        "recall": f"{finding.wrong} of {images} of {finding.label} are taken for another class: recall",
    }[finding.measure]
    return f"{finding.source}: {what} {rate(finding.external)}; in cross-validation {rate(finding.internal)}."


def unseen_table(
    name: str, title: str, found: Sequence[ExternalFinding], frame: "pd.DataFrame", *, synthetic: bool = False
) -> Table:
    """One row a source, strategy and measure; `frame` has the scores of the single models. A single strategy is the
    title's to name."""
    several = len({finding.strategy for finding in found}) > 1
    rows = []
    for finding in found:
        single = fold_range(frame, finding)
        spread = f"{text(single[0])} to {text(single[1])}" if single else None
        verdict = "yes" if finding.contradicts else "no"
        values = (finding.images, finding.wrong, finding.external, spread, finding.internal, verdict)
        which = (finding.source, finding.strategy) if several else (finding.source,)
        rows.append(Row((*which, measure_name(finding)), values))
    note = f"External: the mean of the folds' models; single models: the lowest and the highest of them. {RULE}"
    labels = ("Source", "Strategy", "Rate") if several else ("Source", "Rate")
    return Table(name, title, labels, COLUMNS, tuple(rows), note, synthetic)


def measure_name(finding: ExternalFinding) -> str:
    """The rate's name: that of Covid19 against the rest, or the recall of a class."""
    return f"{finding.measure} of {finding.label}"


def _lead(best: Sequence[ExternalFinding]) -> list[str]:
    steady = [sentence(finding) for finding in best if not finding.contradicts]
    if len(steady) < len(best):
        return [*steady, RULE]
    if not any(finding.internal.value is not None for finding in best):
        return [*steady, "There is nothing in cross-validation to compare these figures with."]
    return ["No figure of the winner on external images contradicts cross-validation.", *steady, RULE]


def _others(found: Sequence[ExternalFinding], winner: str) -> list[str]:
    names = sorted({f.strategy for f in found if f.contradicts and f.strategy != winner})
    return [f"Figures of other strategies that contradict cross-validation: {', '.join(names)}."] if names else []


def _picture(best: Sequence[ExternalFinding], synthetic: bool) -> "Picture":
    bars = []
    for finding in best:
        name = f"{shortened(finding.source)}\n{measure_name(finding)}"
        bars.append(
            Bar(f"{name}, n = {finding.images:,}", finding.external, "alarm" if finding.contradicts else "plain")
        )
        bars.append(Bar("in cross-validation", finding.internal, "control"))
    words = Words(
        "external",
        "On images from elsewhere",
        "Images judged right (%)",
        "Rates of the winner on images of external sources beside those in cross-validation",
        "Pairs of bars, external and in cross-validation, in percent",
    )
    return rate_bars(bars, words, chance=None, synthetic=synthetic)


def _values(found: Sequence[ExternalFinding]) -> list[dict[str, Any]]:
    return [
        {
            **{name: getattr(f, name) for name in ("source", "strategy", "measure", "label", "images", "wrong")},
            "external": interval_values(f.external),
            "internal": interval_values(f.internal),
            "contradicts": f.contradicts,
        }
        for f in found
    ]
