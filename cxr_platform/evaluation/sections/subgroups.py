"""How the winner does by source, view, sex and age band, and how far these are sources under another name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import WithinSources
from cxr_platform.evaluation.formatting import Value, rate
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.forest import forest
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.external import contradicts
from cxr_platform.evaluation.statistics.subgroups import (
    MEASURES,
    SMALL,
    Rate,
    Recall,
    Subgroup,
    SubgroupRates,
    lower_than_overall,
    subgroups,
)
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "subgroups", "Parts of the images"
DIVISIONS = ("source", "view", "sex", "age")
RATES = {
    "accuracy": "7-class accuracy",
    "sensitivity": f"{POSITIVE_CLASS} sensitivity",
    "specificity": f"{POSITIVE_CLASS} specificity",
}
DENOMINATORS = {"accuracy": "images", "sensitivity": f"{POSITIVE_CLASS} images", "specificity": "other images"}
MAKE_UP = ("largest source", "its share (%)", "largest class", "share of that (%)")
NAMED = 4  # parts of lower accuracy that the text names; the table has all
GREY = f"Grey italics: over fewer than {SMALL} images, too few to say anything."
CHILDREN = (
    " The collection that usually bears the name chest_xray (Kermany et al. 2018) is of children of one to five years "
    "but tells no age image by image: its images stand under unknown."
)


@dataclass(frozen=True)
class Found:
    """Rates of `strategy` over all images, over each subgroup, and recall by source and class.

    `mixed` are the images of those sources that have Covid19 and other images; `None` where these are all or none.
    `within` is specificity on those beside images of the same classes from elsewhere.
    """

    strategy: str
    overall: Subgroup
    mixed: Subgroup | None
    subgroups: tuple[Subgroup, ...]
    recalls: tuple[Recall, ...]
    within: WithinSources | None


def find(inputs: ReportInputs) -> Found:
    """The winner's figures in every subgroup that the predictions and, where it is there, the manifest tell of."""
    winner = inputs.results.decision.winner
    judged = SubgroupRates(inputs.predictions, winner, study_seed(inputs.study))
    facts = None if inputs.images is None else inputs.images.facts
    parts, recalls = subgroups(judged, facts), tuple(judged.recalls())
    return Found(winner, judged.overall(), judged.mixed(), parts, recalls, _within(judged))


def _within(judged: SubgroupRates) -> WithinSources | None:
    rates = judged.specificity_within()
    if rates is None:
        return None
    within, elsewhere = rates
    falls = contradicts(within.interval, elsewhere.interval)
    return WithinSources(within.images, within.interval, elsewhere.interval, falls)


def section(inputs: ReportInputs, found: Found) -> Section:
    """Accuracy, sensitivity and specificity by subgroup; absent where the images cannot be divided."""
    if not found.subgroups:
        return Section(NAME, TITLE, absent=_why_none(inputs))
    return Section(
        NAME,
        TITLE,
        lead=_lead(inputs, found),
        pictures=(forest(found.overall, found.subgroups, synthetic=inputs.synthetic),),
        tables=tuple(_rate_table(found, measure, inputs.synthetic) for measure in MEASURES),
        folded=(_recall_table(found, inputs.synthetic),),
        values=_values(found),
    )


def _lead(inputs: ReportInputs, found: Found) -> tuple[str, ...]:
    further = (*_entangled(inputs, found), *_not_told(inputs, found))
    return (_overall(found), *_mixed(found), _lower(found), *further)


def _why_none(inputs: ReportInputs) -> str:
    if inputs.images is None:
        return "All images come from one source, and view, sex and age are in the manifest, which was not given."
    return "All images come from one source, and view, sex and age are not told or the same for all."


def _overall(found: Found) -> str:
    return (
        f"{TITLES[found.strategy]}, first by the paper's rule, has a 7-class accuracy of "
        f"{rate(found.overall.accuracy.interval)} over all {found.overall.images:,} images."
    )


def _lower(found: Found) -> str:
    lower = lower_than_overall(found.overall.accuracy, found.subgroups)
    if not lower:
        return f"No part of {SMALL} images or more lies below that with its whole interval."
    lower.sort(key=lambda part: part.accuracy.interval.value or 0)
    parts = [f"{p.by} {p.name}, {rate(p.accuracy.interval)} of {p.images:,} images" for p in lower[:NAMED]]
    parts += [f"and {len(lower) - NAMED} more"] if len(lower) > NAMED else []
    return f"Below that with their whole interval lie: {'; '.join(parts)}."


def _mixed(found: Found) -> list[str]:
    """Within a source the source gives nothing away; few images, but the question of the whole report."""
    if found.mixed is None:
        return []
    sensitivity, specificity = found.mixed.sensitivity, found.mixed.specificity
    few = f" Fewer than {SMALL} images: no more than a hint." * (sensitivity.small or specificity.small)
    return [
        f"Within the sources that hold both {POSITIVE_CLASS} and other images, where knowing the source helps little, "
        f"sensitivity is {rate(sensitivity.interval)} of {sensitivity.images:,} images and specificity "
        f"{rate(specificity.interval)} of {specificity.images:,}; over all images they are "
        f"{rate(found.overall.sensitivity.interval)} and {rate(found.overall.specificity.interval)}"
        f"{_same_classes(found.within)}.{few}"
    ]


def _same_classes(within: WithinSources | None) -> str:
    if within is None:
        return ""
    return f", and images of the same classes from other sources have {rate(within.elsewhere)} specificity"


def _entangled(inputs: ReportInputs, found: Found) -> list[str]:
    """What view, sex and age cannot be told apart from; nothing with one source, or without them."""
    by_facts = [s for s in found.subgroups if s.by != "source"]
    if inputs.results.only_source or not by_facts:
        return []
    tied = "; ".join(f"{s.by} {s.name} only from {s.only_source}" for s in by_facts if s.only_source)
    return [
        "View, sex and age differ from collection to collection, and so do the classes: a difference between two "
        "parts of the images may be one between collections or classes, not between patients or projections"
        f"{f' ({tied})' if tied else ''}."
    ]


def _not_told(inputs: ReportInputs, found: Found) -> list[str]:
    if inputs.images is None:
        return ["View, sex and age are in the manifest, which was not given: the images are divided by source alone."]
    missing = [by for by in DIVISIONS if by not in {s.by for s in found.subgroups}]
    return [f"Not told, or the same for all images: {', '.join(missing)}."] if missing else []


def _rate_table(found: Found, measure: str, synthetic: bool) -> Table:
    rows = [_row((s.by, s.name), s[measure], _make_up(s, measure)) for s in found.subgroups if s[measure].images]
    overall = _row(("all", "all images"), found.overall[measure], _make_up(found.overall, measure))
    columns = (DENOMINATORS[measure], f"{RATES[measure]} (%)", *(MAKE_UP if measure == "accuracy" else ()))
    title, note = f"{RATES[measure]} by source, view, sex and age", _note(found, measure)
    return Table(f"subgroups-{measure}", title, ("By", "Part"), columns, (*rows, overall), note, synthetic)


def _recall_table(found: Found, synthetic: bool) -> Table:
    rows = tuple(_row((r.source, r.label), r.rate) for r in found.recalls)
    note = f"Share of the images of a class from a source that were recognised as that class. {GREY}"
    title = "Recall of each class by source"
    return Table("subgroups-recall", title, ("Source", "Class"), ("images", "recall (%)"), rows, note, synthetic)


def _row(labels: tuple[str, str], figure: Rate, further: Sequence[Value] = ()) -> Row:
    kind = "small" if figure.small else "total" if labels[0] == "all" else ""
    return Row(labels, (figure.images, figure.interval, *further), kind)


def _make_up(part: Subgroup, measure: str) -> tuple[Value, ...]:
    return (*part.top_source, *part.top_class) if measure == "accuracy" else ()


def _note(found: Found, measure: str) -> str:
    if measure != "accuracy":
        return GREY
    note = f"{GREY} Always answering the most frequent class of a part would reach the last column in it."
    children = ("source", "chest_xray") in {(s.by, s.name) for s in found.subgroups}
    ages = any(s.by == "age" for s in found.subgroups)
    return note + CHILDREN * (children and ages)


def _values(found: Found) -> dict[str, Any]:
    return {
        "strategy": found.strategy,
        "small_below_images": SMALL,
        "overall": _part_values(found.overall),
        "sources_with_and_without_covid19": None if found.mixed is None else _part_values(found.mixed),
        "lower_than_overall": [
            [s.by, s.name] for s in lower_than_overall(found.overall.accuracy, found.subgroups)
        ],
        "parts": [_part_values(s) for s in found.subgroups],
        "recall": [{"source": r.source, "label": r.label, **_rate_values(r.rate)} for r in found.recalls],
    }  # fmt: skip


def _part_values(part: Subgroup) -> dict[str, Any]:
    rates = {measure: _rate_values(part[measure]) for measure in MEASURES}
    return {"by": part.by, "name": part.name, "top_source": part.top_source, "top_class": part.top_class, **rates}


def _rate_values(figure: Rate) -> dict[str, Any]:
    bounds = figure.interval
    return {
        "images": figure.images,
        "small": figure.small,
        "value": bounds.value,
        "low": bounds.low,
        "high": bounds.high,
    }
