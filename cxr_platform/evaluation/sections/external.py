"""Images of external sources, scored by networks that saw no image of the source, next to cross-validation.

Each image is scored by the networks of all folds. The main figure is that of their mean probabilities (an ensemble,
which tends to be slightly better than one network); the range of the single networks stands next to it. Covid19 of the
sources is ranked against other images of external and of outside sources, as `cxr evaluate` does it for other folders.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from cxr_platform.evaluation.external_tables import pair_rows_table, pairs_sentence, pairs_table, shown_pairs
from cxr_platform.evaluation.finding_clauses import worst_pair
from cxr_platform.evaluation.findings import ExternalFinding
from cxr_platform.evaluation.formatting import count, rate, shortened, text
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.hospitals import pair_values
from cxr_platform.evaluation.sections.rate_bars import Labels, paired_bars, rate_bars
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.external import external_findings, fold_range, interval_values
from cxr_platform.evaluation.statistics.external_pairs import ExternalPairs, external_pairs
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "external", "Images from external sources"
PAIRS_TITLE = f"AUC of {POSITIVE_CLASS} for pairs of external and outside sources"
RULE = "A figure contradicts cross-validation if the external one is lower and the two intervals do not overlap."


@dataclass(frozen=True)
class ExternalResults:
    """Rates and pairs of sources for all strategies, the winner's first; no pairs without Covid19 and other images."""

    rates: tuple[ExternalFinding, ...] = ()
    pairs: tuple[ExternalPairs, ...] = ()


def compute(inputs: ReportInputs) -> ExternalResults:
    """Return every figure that the external images allow; of the outside images those against their Covid19."""
    frame, outside = (inputs.evidence.parts.get(name) for name in (NAME, "outside"))
    if frame is None:
        return ExternalResults()
    seed, strategies = study_seed(inputs.study), inputs.winner_first
    scored = pd.concat([frame.assign(finding=None), *([] if outside is None else [outside])], ignore_index=True)
    manifest = inputs.study.manifest
    studied = manifest.origins_of(inputs.predictions.source)
    pairs = external_pairs(scored, manifest.origins, studied, strategies, strategies[0], seed)
    return ExternalResults(tuple(external_findings(frame, inputs.predictions, strategies, seed)), tuple(pairs))


def render(inputs: ReportInputs, results: ExternalResults) -> Section:
    """Show the winner on external images, with a warning for each contradiction; all strategies are folded.

    Then come its pairs of sources and those of `robust`, with a warning where some are ranked the wrong way round.
    """
    rates, pairs = results.rates, results.pairs
    frame, synthetic = inputs.evidence.parts.get(NAME), inputs.synthetic
    if frame is None or not rates:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(NAME))
    winner = inputs.results.decision.winner
    of_winner = [r for r in rates if r.strategy == winner]
    lead, contradicted = _lead(of_winner), [r for r in of_winner if r.contradicts]
    if others := sorted({r.strategy for r in rates if r.contradicts and r.strategy != winner}):
        lead.append(f"Figures of other strategies that contradict cross-validation: {', '.join(others)}.")
    warnings = [f"{rate_sentence(r)} This contradicts cross-validation." for r in contradicted]
    title = f"The winner, {winner}, on external images"
    tables = [external_table("external", title, of_winner, frame, synthetic=synthetic)]
    folded = [external_table("external-all", "All strategies", rates, frame, synthetic=synthetic)]
    if shown := shown_pairs(pairs, winner):
        for found in shown:
            (warnings if any(pair.reversed for pair in found.pairs) else lead).append(pairs_sentence(found))
        tables.append(pairs_table(shown, PAIRS_TITLE, synthetic=synthetic))
        folded.append(pair_rows_table(pairs, synthetic=synthetic))
    return Section(
        NAME,
        TITLE,
        lead=tuple(lead),
        pictures=(_picture(of_winner, synthetic),),
        tables=tuple(tables),
        folded=tuple(folded),
        warnings=tuple(warnings),
        values={
            "rule": RULE,
            "strategies": [_values(r) for r in rates],
            "pairs": {found.strategy: _pairs_values(found) for found in pairs},
        },
    )


def rate_sentence(measured: ExternalFinding) -> str:
    """Return how many images of an external source are wrong, and the rate next to that of cross-validation."""
    images, wrong = count(measured.images, "image", "images"), measured.wrong
    errors = {
        "sensitivity": f"{wrong} of {images} of {POSITIVE_CLASS} are missed",
        "specificity": f"{wrong} of {images} without {POSITIVE_CLASS} are called {POSITIVE_CLASS}",
        "recall": f"{wrong} of {images} of {measured.label} are assigned another class",
    }[measured.measure]
    external, internal = rate(measured.external), rate(measured.internal)
    return f"{measured.source}: {errors} ({measured.measure} {external}, in cross-validation {internal})."


def external_table(
    name: str, title: str, rates: Sequence[ExternalFinding], frame: pd.DataFrame, *, synthetic: bool = False
) -> Table:
    """Return a table with one row per source, strategy and measure; `frame` has the scores of the single networks.

    The column of the strategy is left out if there is only one.
    """
    several = len({r.strategy for r in rates}) > 1
    rows = []
    for r in rates:
        lowest_highest = fold_range(frame, r)
        single = " to ".join(map(text, lowest_highest)) if lowest_highest else None
        labels = (r.source, r.strategy, measure_name(r)) if several else (r.source, measure_name(r))
        verdict = "yes" if r.contradicts else "no"
        rows.append(Row(labels, (r.images, r.wrong, r.external, single, r.internal, verdict)))
    headers = ("Source", "Strategy", "Rate") if several else ("Source", "Rate")
    columns = ("images", "wrong", "external (%)", "single networks (%)", "cross-validation (%)", "contradicts")
    note = f"External: mean of the folds' networks. Single networks: the lowest and the highest of them. {RULE}"
    return Table(name, title, headers, columns, tuple(rows), note, synthetic)


def measure_name(measured: ExternalFinding) -> str:
    """Return the name of the rate: "sensitivity of Covid19", or "recall of" another class."""
    return f"{measured.measure} of {measured.label}"


def _lead(of_winner: Sequence[ExternalFinding]) -> list[str]:
    consistent = [rate_sentence(r) for r in of_winner if not r.contradicts]
    if len(consistent) < len(of_winner):
        return [*consistent, RULE]
    if all(r.internal.value is None for r in of_winner):
        return [*consistent, "Cross-validation has no figures to compare these with."]
    return ["No figure of the winner on external images contradicts cross-validation.", *consistent, RULE]


def _picture(of_winner: Sequence[ExternalFinding], synthetic: bool) -> Picture:
    named = [(f"{shortened(r.source)}\n{measure_name(r)}, n = {r.images:,}", r) for r in of_winner]
    labels = Labels(
        "external",
        title="Rates on external images",
        axis="Images classified correctly (%)",
        caption="Rates of the winner on images of external sources next to those in cross-validation",
        alt="Pairs of bars, external and in cross-validation, in percent",
    )
    return rate_bars(paired_bars(named, "in cross-validation"), labels, chance=None, synthetic=synthetic)


def _values(measured: ExternalFinding) -> dict[str, Any]:
    names = ("source", "strategy", "measure", "label", "images", "wrong")
    return {
        **{name: getattr(measured, name) for name in names},
        "external": interval_values(measured.external),
        "internal": interval_values(measured.internal),
        "contradicts": measured.contradicts,
    }


def _pairs_values(found: ExternalPairs) -> dict[str, Any]:
    return {
        "mean_auc": asdict(found.mean),
        "difference": asdict(found.difference),
        "worst": asdict(worst_pair(found.counted)) if found.counted else None,
        "pairs": [{**pair_values(pair), "counts": pair in found.counted} for pair in found.pairs],
    }
