"""The winner's rates by source, view, sex and age, and how far these subgroups coincide with sources."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import SMALL
from cxr_platform.evaluation.formatting import Value, rate, shortened, text
from cxr_platform.evaluation.pictures import BLUE, GREY, INK, Picture, canvas, mark, to_png
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.external import interval_values
from cxr_platform.evaluation.statistics.subgroups import (
    MEASURES,
    Recall,
    Subgroup,
    SubgroupRate,
    SubgroupRates,
    lower_than_overall,
    subgroups,
)
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, TITLE = "subgroups", "Subgroups of the images"
DIVISIONS = ("source", "view", "sex", "age")
HEADINGS = {"source": "Source", "view": "View", "sex": "Sex", "age": "Age (years)"}
RATES = {
    "accuracy": ("7-class accuracy", "images"),
    "sensitivity": (f"{POSITIVE_CLASS} sensitivity", f"{POSITIVE_CLASS} images"),
    "specificity": (f"{POSITIVE_CLASS} specificity", "other images"),
}
"""Measure → its title and the images that it is over."""
NAMED = 4
"""How many subgroups of lower accuracy the text names; the table has all of them."""

SMALL_NOTE = f"Grey italics: fewer than {SMALL} images, too few for a conclusion."
CHILDREN_NOTE = (
    " The collection that is usually named chest_xray (Kermany et al. 2018) is of children of one to five years but "
    "gives no age per image: its images are under unknown."
)


@dataclass(frozen=True)
class SubgroupResults:
    """Rates of `strategy` over all images and over each subgroup, and recall by source and class."""

    strategy: str
    overall: Subgroup
    subgroups: tuple[Subgroup, ...]
    recalls: tuple[Recall, ...]


def compute(inputs: ReportInputs) -> SubgroupResults:
    """Return the winner's rates by source and, with a manifest, by view, sex and age."""
    winner = inputs.results.decision.winner
    judged = SubgroupRates(inputs.predictions, winner, study_seed(inputs.study))
    facts = None if inputs.images is None else inputs.images.facts
    return SubgroupResults(winner, judged.overall(), subgroups(judged, facts), tuple(judged.recalls()))


def render(inputs: ReportInputs, results: SubgroupResults) -> Section:
    """Show accuracy, sensitivity and specificity by subgroup; absent if the images cannot be divided."""
    if not results.subgroups:
        why = "the manifest, which has view, sex and age, was not given"
        if inputs.images is not None:
            why = "view, sex and age are unknown or the same for all"
        return Section(NAME, TITLE, absent=f"All images come from one source, and {why}.")
    lead = [_overall_sentence(results), _lower_sentence(results)]
    lead += [*_entangled_sentence(inputs, results), *_missing_sentence(inputs, results)]
    return Section(
        NAME,
        TITLE,
        lead=tuple(lead),
        pictures=(forest_plot(results.overall, results.subgroups, synthetic=inputs.synthetic),),
        tables=tuple(_rate_table(results, measure, inputs.synthetic) for measure in MEASURES),
        folded=(_recall_table(results, inputs.synthetic),),
        values=_values(results),
    )


def forest_plot(overall: Subgroup, parts: Sequence[Subgroup], *, synthetic: bool) -> Picture:
    """Draw 7-class accuracy by subgroup with intervals; subgroups of few images are hollow and grey."""
    rows: list[Subgroup | str] = []  # a heading, then its subgroups
    for by, group in itertools.groupby(parts, key=lambda part: part.by):
        rows += [by, *group]
    with canvas(2.3 + 0.33 * len(rows), synthetic=synthetic) as (figure, axes):
        axes.axvline(_accuracy(overall), color=INK, linestyle=":", label="all images")
        for line, row in enumerate(rows):
            if isinstance(row, Subgroup):
                _draw_subgroup(axes, line, row)
        names = [
            HEADINGS[row] if isinstance(row, str) else f"{shortened(row.name, 24)} ({row.images:,})" for row in rows
        ]
        axes.set_yticks(range(len(rows)), names)
        for row, tick in zip(rows, axes.get_yticklabels(), strict=True):
            tick.set_fontweight("bold" if isinstance(row, str) else "normal")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set(xlim=(0, 100), xlabel="7-class accuracy (% of images)", ylim=(len(rows) - 0.2, -0.8))
        axes.set_title("Accuracy by subgroup", loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower left", frameon=False, fontsize=11)
        png = to_png(figure)
    caption = (
        "7-class accuracy of the winner by subgroup, with 95 % confidence intervals; number of images in parentheses. "
        f"Hollow and grey: fewer than {SMALL} images."
    )
    listed = "; ".join(f"{p.by} {p.name} {text(p.accuracy.interval)} of {p.images:,} images" for p in parts)
    alt = f"{mark(synthetic)}Dots with intervals: 7-class accuracy in percent by subgroup."
    return Picture("subgroups", caption, f"{alt} All images {text(overall.accuracy.interval)}; {listed}.", png)


def _draw_subgroup(axes: Axes, line: int, part: Subgroup) -> None:
    interval = part.accuracy.interval
    colour, fill = (GREY, "white") if part.accuracy.small else (BLUE, BLUE)
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [line, line], color=colour, linewidth=2, zorder=2)
    axes.plot([_accuracy(part)], [line], "o", markersize=8, color=colour, markerfacecolor=fill, zorder=3, clip_on=False)
    axes.text(103.5, line, text(interval.value), va="center", color=colour, size=11, weight="bold")


def _accuracy(part: Subgroup) -> float:
    value = part.accuracy.interval.value
    return float("nan") if value is None else value  # matplotlib leaves NaN out


def _overall_sentence(results: SubgroupResults) -> str:
    return (
        f"{TITLES[results.strategy]}, first by the paper's rule, has a 7-class accuracy of "
        f"{rate(results.overall.accuracy.interval)} over all {results.overall.images:,} images."
    )


def _lower_sentence(results: SubgroupResults) -> str:
    lower = lower_than_overall(results.overall.accuracy, results.subgroups)
    if not lower:
        return f"No subgroup of {SMALL} images or more lies below that with its whole interval."
    lower.sort(key=lambda part: part.accuracy.interval.value or 0)
    parts = [f"{p.by} {p.name}, {rate(p.accuracy.interval)} of {p.images:,} images" for p in lower[:NAMED]]
    parts += [f"and {len(lower) - NAMED} more"] if len(lower) > NAMED else []
    return f"Below that with their whole interval lie: {'; '.join(parts)}."


def _entangled_sentence(inputs: ReportInputs, results: SubgroupResults) -> list[str]:
    """Warn that view, sex and age go together with the source, if there are several sources and such subgroups."""
    by_facts = [part for part in results.subgroups if part.by != "source"]
    if inputs.results.only_source or not by_facts:
        return []
    tied = "; ".join(f"{part.by} {part.name} only from {part.only_source}" for part in by_facts if part.only_source)
    return [
        "View, sex and age differ between collections, and so do the classes: a difference between two subgroups may "
        "be one between collections or classes, not between patients or projections"
        f"{f' ({tied})' if tied else ''}."
    ]


def _missing_sentence(inputs: ReportInputs, results: SubgroupResults) -> list[str]:
    if inputs.images is None:
        return ["The manifest, which has view, sex and age, was not given: the images are divided by source only."]
    missing = [by for by in DIVISIONS if by not in {part.by for part in results.subgroups}]
    return [f"Unknown, or the same for all images: {', '.join(missing)}."] if missing else []


def _rate_table(results: SubgroupResults, measure: str, synthetic: bool) -> Table:
    """Return the table of one rate; that of accuracy also has the most frequent source and class of each subgroup."""
    (title, counted), parts, note = RATES[measure], results.subgroups, SMALL_NOTE
    columns: tuple[str, ...] = (counted, f"{title} (%)")
    if measure == "accuracy":
        columns += ("largest source", "share of that source (%)", "largest class", "share of that class (%)")
        note += " The last column is also the accuracy of always answering the most frequent class of the subgroup."
        kermany = any((part.by, part.name) == ("source", "chest_xray") for part in parts)
        note += CHILDREN_NOTE * (kermany and any(part.by == "age" for part in parts))

    def row(by: str, name: str, part: Subgroup) -> Row:
        return _row((by, name), part[measure], (*part.top_source, *part.top_class) if measure == "accuracy" else ())

    rows = [row(part.by, part.name, part) for part in parts if part[measure].images]
    rows.append(row("all", "all images", results.overall))
    title = f"{title} by source, view, sex and age"
    return Table(f"subgroups-{measure}", title, ("By", "Subgroup"), columns, tuple(rows), note, synthetic)


def _recall_table(results: SubgroupResults, synthetic: bool) -> Table:
    rows = tuple(_row((r.source, r.label), r.rate) for r in results.recalls)
    note = f"Share of the images of a class from a source that were recognised as that class. {SMALL_NOTE}"
    headers, columns = ("Source", "Class"), ("images", "recall (%)")
    return Table("subgroups-recall", "Recall of each class by source", headers, columns, rows, note, synthetic)


def _row(labels: tuple[str, str], measured: SubgroupRate, further: Sequence[Value] = ()) -> Row:
    kind = "small" if measured.small else "total" if labels[0] == "all" else ""
    return Row(labels, (measured.images, measured.interval, *further), kind)


def _values(results: SubgroupResults) -> dict[str, Any]:
    lower = lower_than_overall(results.overall.accuracy, results.subgroups)
    return {
        "strategy": results.strategy,
        "small_below_images": SMALL,
        "overall": _subgroup_values(results.overall),
        "lower_than_overall": [[part.by, part.name] for part in lower],
        "parts": [_subgroup_values(part) for part in results.subgroups],
        "recall": [{"source": r.source, "label": r.label, **_rate_values(r.rate)} for r in results.recalls],
    }


def _subgroup_values(part: Subgroup) -> dict[str, Any]:
    rates = {measure: _rate_values(part[measure]) for measure in MEASURES}
    return {"by": part.by, "name": part.name, "top_source": part.top_source, "top_class": part.top_class, **rates}


def _rate_values(measured: SubgroupRate) -> dict[str, Any]:
    return {"images": measured.images, "small": measured.small, **interval_values(measured.interval)}
