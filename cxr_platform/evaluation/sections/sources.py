"""The sources of each class, and what the source of an image alone would give away of its class.

Collections of one origin (hospital or publication) count as one source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.evaluation.finding_clauses import confounding_warning
from cxr_platform.evaluation.findings import Association
from cxr_platform.evaluation.formatting import Value, joined, percent, text
from cxr_platform.evaluation.metrics import compute_metrics
from cxr_platform.evaluation.pictures import BLUE, GREEN, GREY, INK, VERMILION, Picture, canvas, mark, to_png
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.report_tables import counts_table
from cxr_platform.evaluation.statistics.association import (
    Counts,
    count_table,
    cramers_v,
    single_source,
    source_rule_matrix,
    source_shares,
    sources_of,
)
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, TITLE = "sources", "Sources of the images"
LOOKS = ((BLUE, ""), ("#E69F00", "//"), (GREEN, "\\\\"), ("#CC79A7", "xx"), ("#56B4E9", ".."), (VERMILION, "--"))
"""Okabe and Ito's colours with a hatching each; sources beyond these share grey."""
LETTERS = "ABCDEFG"
"""Repeated in the bars, so that no colour vision is needed."""
LETTER_WIDTH = 6.0
"""Percent of a bar that a letter needs."""


def compute(inputs: ReportInputs) -> Association:
    """Return the association of class and origin over the study's images, without external sources."""
    counts = inputs.results.origin_counts
    return Association(cramers_v(counts), single_source(counts), len(sources_of(counts)))


def render(inputs: ReportInputs, association: Association) -> Section:
    """Show images by class and source, and warn of classes with a single source."""
    counts, outside, synthetic = inputs.results.origin_counts, _external_counts(inputs), inputs.synthetic
    several, warning = association.sources > 1, confounding_warning(association)
    tables = [counts_table(inputs.results), *_external_tables(outside)]
    return Section(
        NAME,
        TITLE,
        lead=(
            *_association_sentences(counts, association),
            *_origin_sentence(inputs),
            *_contrast_sentence(inputs),
            *_outside_sentence(inputs),
            *_external_sentence(outside),
            *_shared_origin_sentence(inputs, outside),
        ),
        pictures=(source_bars(counts, synthetic=synthetic),) if several else (),
        tables=tuple(replace(table, synthetic=synthetic) for table in tables),
        folded=(_shares_table(counts, synthetic),) if several else (),
        warnings=(warning,) if warning else (),
        values={
            "sources": sources_of(counts),
            "origins": dict(inputs.study.manifest.origins),
            "cramers_v": association.cramers_v,
            "single_source": dict(association.single_source),
            "share_of_class": source_shares(counts),
            "source_rule": asdict(compute_metrics(source_rule_matrix(counts))) if several else None,
            "contrast": dict(inputs.study.manifest.contrast),
            "outside": dict(inputs.study.manifest.outside),
            "external": {c: dict(by_source) for c, by_source in outside.items() if by_source},
        },
    )


def source_bars(counts: Counts, *, synthetic: bool) -> Picture:
    """Draw one bar per class, divided by the share of each source in percent."""
    names, widths = _segments(counts)
    totals = [sum(counts.get(c, {}).values()) for c in CLASSES]
    with canvas(3.4 + 0.28 * len(names), synthetic=synthetic) as (figure, axes):
        for position, name in enumerate(names):
            _draw_source(axes, position, name, widths)
        axes.set_yticks(range(len(CLASSES)), [f"{c} ({n:,})" for c, n in zip(CLASSES, totals, strict=True)])
        for line, images in enumerate(totals):
            if not images:
                axes.text(1, line, "no images", va="center", color=GREY, style="italic")
        axes.set(xlim=(0, 100), xlabel="Images of the class (%)", ylim=(len(CLASSES) - 0.5, -0.5))
        axes.set_title("Sources of each class", loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower left", frameon=False, fontsize=11)
        png = to_png(figure)
    parts = []
    for label, shares in source_shares(counts).items():
        listed = ", ".join(f"{source} {text(share)}" for source, share in shares.items() if share)
        parts.append(f"{label}: {listed or 'no images'}")
    alt = f"{mark(synthetic)}Stacked bars of sources by class, in percent of the class. {'; '.join(parts)}."
    return Picture("sources", "Images of each class by source, in percent of the class.", alt, png)


def _segments(counts: Counts) -> tuple[list[str], NDArray[np.float64]]:
    """Return the names of k segments and their lengths (7, k) in percent; sources beyond `LOOKS` are combined."""
    sources, table, most = sources_of(counts), count_table(counts), len(LOOKS)
    shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    if len(sources) <= most:
        return sources, shares
    others = shares[:, most:].sum(axis=1, keepdims=True)
    return [*sources[:most], f"{len(sources) - most} other sources"], np.hstack([shares[:, :most], others])


def _draw_source(axes: Axes, position: int, name: str, widths: NDArray[np.float64]) -> None:
    colour, hatch = (*LOOKS, (GREY, ""))[position]
    letter, lines = LETTERS[position], range(len(CLASSES))
    mine, starts = widths[:, position], widths[:, :position].sum(axis=1)
    look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "height": 0.72}
    axes.barh(lines, mine, left=starts, label=f"{letter}  {name}", **look)
    box = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.15"}
    for line, width, middle in zip(lines, mine, starts + mine / 2, strict=True):
        if width >= LETTER_WIDTH:
            axes.text(middle, line, letter, ha="center", va="center", size=11, color=INK, bbox=box)


def _association_sentences(counts: Counts, association: Association) -> Sequence[str]:
    if association.sources < 2:
        return (
            "All images of the study come from one source: the source cannot give the class away here, and the figures "
            "do not show how well they hold for images from another source.",
        )
    strength = "All images are of one class, so that class and source cannot be associated."
    if association.cramers_v is not None:
        strength = (
            f"The association of class and source of the study's images is Cramér's V {association.cramers_v:.3f}, "
            "where 0 means that the two are independent and 1 that one of them determines the other."
        )
    rule = compute_metrics(source_rule_matrix(counts))
    return (
        strength,
        "A rule that knows only the source of an image and answers the most frequent class of that source would be "
        f"right on {percent(rule.accuracy_7_class)} of these images; for {POSITIVE_CLASS} against the rest that is "
        f"{percent(rule.sensitivity)} sensitivity and {percent(rule.specificity)} specificity.",
    )


def _external_counts(inputs: ReportInputs) -> dict[str, dict[str, int]]:
    """Return images by class, then source, of the sources that are in the manifest but not in the folds."""
    inside = set(sources_of(inputs.results.counts))
    recorded = inputs.study.manifest.counts
    return {c: {s: n for s, n in recorded.get(c, {}).items() if s not in inside} for c in CLASSES}


def _origin_sentence(inputs: ReportInputs) -> list[str]:
    """Return a sentence that names the collections that count as one source."""
    collections: dict[str, list[str]] = {}
    for source in sources_of(inputs.results.counts):
        collections.setdefault(inputs.study.manifest.origin_of(source), []).append(source)
    parts = [f"{joined(sources)} ({origin})" for origin, sources in collections.items() if len(sources) > 1]
    return [f"Collections of one origin count as one source: {'; '.join(parts)}."] if parts else []


def _contrast_sentence(inputs: ReportInputs) -> list[str]:
    parts = [f"{images:,} of {source}" for source, images in inputs.study.manifest.contrast.items()]
    if not parts:
        return []
    return [f"Contrast images, whose finding is none of the seven classes: {joined(parts)}. None was trained on."]


def _outside_sentence(inputs: ReportInputs) -> list[str]:
    parts = [f"{images:,} of {source}" for source, images in inputs.study.manifest.outside.items()]
    return [f"Images outside the seven classes, in no fold: {joined(parts)}."] if parts else []


def _shared_origin_sentence(inputs: ReportInputs, outside: Counts) -> list[str]:
    """Return a sentence that names external sources of an origin that the study has too."""
    origin_of, inside = inputs.study.manifest.origin_of, sources_of(inputs.results.origin_counts)
    parts = [f"{source} ({origin_of(source)})" for source in sources_of(outside) if origin_of(source) in inside]
    if not parts:
        return []
    return [f"External, but of an origin that was trained on: {joined(parts)}. They are no independent test."]


def _external_sentence(outside: Counts) -> list[str]:
    names = sources_of(outside)
    if not names:
        return []
    return [f"External sources, in no fold: {', '.join(names)}. Their images enter no figure of this section."]


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
    rows = [Row((c,), _images(outside[c], sources)) for c in CLASSES if outside[c]]
    totals = {s: sum(outside[c].get(s, 0) for c in CLASSES) for s in sources}
    rows.append(Row(("All classes",), _images(totals, sources), "total"))
    return [Table("external-counts", "Images of external sources, in no fold", ("Class",), tuple(sources), tuple(rows))]


def _images(by_source: Mapping[str, int], sources: Iterable[str]) -> tuple[Value, ...]:
    return tuple(by_source.get(source, 0) for source in sources)
