"""Where the images of each class come from, and what the source alone would give away."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from cxr_platform.evaluation.credibility import confounding_warning
from cxr_platform.evaluation.findings import Association
from cxr_platform.evaluation.formatting import Value, percent
from cxr_platform.evaluation.metrics import compute_metrics
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.report_tables import counts_table
from cxr_platform.evaluation.sections.source_bars import source_bars
from cxr_platform.evaluation.statistics.association import (
    Counts,
    cramers_v,
    single_source,
    source_rule_matrix,
    source_shares,
    sources_of,
)
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

NAME, TITLE = "sources", "Where the images come from"


def find(inputs: ReportInputs) -> Association:
    """Class × source over the images of the study; external sources take no part."""
    counts = inputs.results.counts
    return Association(cramers_v(counts), single_source(counts), len(sources_of(counts)))


def section(inputs: ReportInputs, found: Association) -> Section:
    """The class × source table with shares, the picture of it, and a warning where a class has one source only."""
    counts, outside = inputs.results.counts, external_counts(inputs)
    return Section(
        NAME,
        TITLE,
        lead=(*_lead(counts, found), *_outside_lead(outside)),
        pictures=_pictures(inputs, found),
        tables=tuple(replace(t, synthetic=inputs.synthetic) for t in _tables(inputs, outside)),
        folded=(_shares_table(counts, inputs.synthetic),) if found.sources > 1 else (),
        warnings=tuple(filter(None, (confounding_warning(found),))),
        values=_values(counts, outside, found),
    )


def external_counts(inputs: ReportInputs) -> dict[str, dict[str, int]]:
    """Images by class, then source, of the sources that were in the manifest and not in the folds."""
    inside = set(sources_of(inputs.results.counts))
    recorded = inputs.study.manifest.counts
    return {c: {s: n for s, n in recorded.get(c, {}).items() if s not in inside} for c in CLASSES}


def _lead(counts: Counts, found: Association) -> Sequence[str]:
    if found.sources < 2:
        return (
            "All images of the study come from one source: the source cannot give the class away here, and how far "
            "the figures hold for images of another source cannot be told from them.",
        )
    rule = compute_metrics(source_rule_matrix(counts))
    return (
        _strength(found),
        f"Whoever knew nothing but the source of an image, and answered the most frequent class of that source, would "
        f"be right on {percent(rule.accuracy_7_class)} of these images; for {POSITIVE_CLASS} against the rest that "
        f"is {percent(rule.sensitivity)} sensitivity and {percent(rule.specificity)} specificity.",
    )


def _strength(found: Association) -> str:
    if found.cramers_v is None:
        return "All images are of one class: class and source cannot be associated."
    return (
        f"Class and source of the study's images are associated with Cramér's V {found.cramers_v:.3f}: 0 means that "
        "the source says nothing of the class, 1 that one of the two follows from the other."
    )


def _outside_lead(outside: Counts) -> list[str]:
    names = sources_of(outside)
    if not names:
        return []
    return [f"Marked external, in no fold: {', '.join(names)}. These images enter no figure of this section."]


def _pictures(inputs: ReportInputs, found: Association) -> tuple[Picture, ...]:
    if found.sources < 2:
        return ()
    return (source_bars(inputs.results.counts, synthetic=inputs.synthetic),)


def _tables(inputs: ReportInputs, outside: Counts) -> list[Table]:
    return [counts_table(inputs.results), *_external_tables(outside)]


def _shares_table(counts: Counts, synthetic: bool) -> Table:
    shares, sources = source_shares(counts), sources_of(counts)
    rows = [Row((c,), (sum(counts.get(c, {}).values()), *(shares[c][s] for s in sources))) for c in CLASSES]
    columns = ("images", *(f"{source} (%)" for source in sources))
    note = "Percent of the images of a class, so that each row with images sums to 100."
    return Table("source-shares", "Share of each source in a class", ("Class",), columns, tuple(rows), note, synthetic)


def _external_tables(outside: Counts) -> list[Table]:
    sources = sources_of(outside)
    if not sources:
        return []
    rows = [Row((c,), _numbers(outside[c], sources)) for c in CLASSES if outside[c]]
    totals = {s: sum(outside[c].get(s, 0) for c in CLASSES) for s in sources}
    rows.append(Row(("All classes",), _numbers(totals, sources), "total"))
    title = "Images of external sources, which were not in the folds"
    return [Table("external-counts", title, ("Class",), tuple(sources), tuple(rows))]


def _numbers(by_source: Mapping[str, int], sources: Iterable[str]) -> tuple[Value, ...]:
    return tuple(by_source.get(source, 0) for source in sources)


def _values(counts: Counts, outside: Counts, found: Association) -> dict[str, object]:
    rule = asdict(compute_metrics(source_rule_matrix(counts))) if found.sources > 1 else None
    return {
        "sources": sources_of(counts),
        "cramers_v": found.cramers_v,
        "single_source": dict(found.single_source),
        "share_of_class": source_shares(counts),
        "source_rule": rule,
        "external": {c: dict(by_source) for c, by_source in outside.items() if by_source},
    }
