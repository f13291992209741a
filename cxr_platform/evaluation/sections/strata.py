"""The winner on external images by view, sex, age and origin, beside what each of these alone reveals of Covid19."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cxr_platform.evaluation.findings import SMALL
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.strata import FEWEST, SEPARATES, Stratum, external_strata
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "strata", "External images by view, sex, age and origin"
PART = "external"
METHOD = (
    f"Figures of the winner for {POSITIVE_CLASS} on external images, divided by what is known of them. If a variable "
    "alone, without looking at the image, separates the classes of these images, the figure over all of them may "
    "come from that variable, and only the figures within its values count."
)
NOTE = (
    "Variable alone: AUC of ranking the images by the share of Covid19 among those of other patients with the same "
    f"value of the variable; 0.5 is chance. A dash: no images, one side only, or fewer than {FEWEST} patients on one "
    f"side. Grey italics: fewer than {SMALL} patients of Covid19 or of others, too few for a conclusion."
)


def compute(inputs: ReportInputs) -> tuple[Stratum, ...]:
    """Return the strata of the external images for the winner; empty without external images."""
    frame, winner = inputs.evidence.parts.get(PART), inputs.results.decision.winner
    if frame is None or frame.empty:
        return ()
    rows, facts = frame[frame["strategy"] == winner], None if inputs.images is None else inputs.images.facts
    origins = {source: inputs.study.manifest.origin_of(source) for source in rows["source"].unique()}
    return tuple(external_strata(rows, facts, origins, study_seed(inputs.study)))


def render(inputs: ReportInputs, strata: Sequence[Stratum]) -> Section:
    """Show the strata, with a warning for each variable that alone separates Covid19."""
    if not strata:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(PART))
    warnings = _warnings(strata)
    lead = [METHOD]
    if not warnings:
        lead.append(f"No variable alone separates {POSITIVE_CLASS} with an AUC of {SEPARATES:.1f} or more.")
    if inputs.images is None:
        lead.append("The manifest, which has view, sex and age, was not given: the images are divided by origin only.")
    return Section(
        NAME,
        TITLE,
        lead=tuple(lead),
        tables=(_table(strata, inputs.synthetic),),
        warnings=tuple(warnings),
        values={"strata": [_values(stratum) for stratum in strata]},
    )


def _warnings(strata: Sequence[Stratum]) -> list[str]:
    """Return one sentence per scope and separating variable."""
    network = {stratum.scope: stratum.auc for stratum in strata if stratum.by == "all"}
    found = {(s.scope, s.by): s.alone for s in strata if s.separates}
    return [
        f"{scope[:1].upper()}{scope[1:]}: the {by} alone separates {POSITIVE_CLASS} with AUC {text(alone)}; the "
        f"network reaches {text(network[scope])}."
        for (scope, by), alone in found.items()
    ]


def _table(strata: Sequence[Stratum], synthetic: bool) -> Table:
    rows = []
    for s in strata:
        by = "all" if s.by == "all" else f"{s.by}: {s.name}"
        kind = "total" if s.by == "all" else "small" * s.small
        rows.append(Row((s.scope, by), (s.images, s.others, s.sensitivity, s.specificity, s.auc, s.alone), kind))
    columns = (POSITIVE_CLASS, "others", "sensitivity (%)", "specificity (%)", "AUC", "variable alone, AUC")
    return Table("strata", TITLE, ("Images", "Part"), columns, tuple(rows), NOTE, synthetic)


def _values(stratum: Stratum) -> dict[str, Any]:
    return {**asdict(stratum), "separates": stratum.separates}
