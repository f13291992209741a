"""STUDY_CARD.md: the items of CLAIM, TRIPOD+AI and STARD-AI, filled from the study where possible and otherwise open.

They are checklists for authors of studies on medical AI. `card_items.json` has for each item `text`, the
item in our own words; `fill`, a format string with names of facts (`study_card_facts`); and `hint`, what the authors
have to add. An item without `fill`, or with a missing fact, stays open.
"""

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from cxr_platform.evaluation.report_contents import ReportContents
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.study_card_facts import card_facts
from cxr_platform.evaluation.table import SYNTHETIC

FILLED, PARTLY, OPEN = "filled", "partly", "open"


@dataclass(frozen=True)
class Item:
    """One item of a checklist; `fill` and `hint` may be empty."""

    number: str
    section: str
    text: str
    fill: str
    hint: str


@dataclass(frozen=True)
class Checklist:
    """A checklist and the reference of its original wording."""

    name: str
    title: str
    original: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Entry:
    """What the study card says about an item; `state` is `FILLED`, `PARTLY` (the authors have to add) or `OPEN`."""

    item: Item
    text: str
    state: str


def study_card(inputs: ReportInputs, contents: ReportContents) -> str:
    """Return the study card as Markdown."""
    facts = card_facts(inputs, contents)
    lists = [(checklist, [entry(item, facts) for item in checklist.items]) for checklist in checklists()]
    lines = [f"# Study card: {inputs.study.name}", ""]
    if inputs.synthetic:
        lines += [f"**{SYNTHETIC}**: the images of this study are drawn; nothing here applies to patients.", ""]
    lines += [*_preface([entry for _, entries in lists for entry in entries]), ""]
    lines += ["## Flow of the images", "", *flow_diagram(inputs), ""]
    for checklist, entries in lists:
        filled = sum(entry.state != OPEN for entry in entries)
        lines += [f"## {checklist.title}", "", f"Original: {checklist.original}", ""]
        lines += [f"{filled} of {len(entries)} items filled at least in part.", ""]
        lines += ["| No. | Section | Item | This study |", "| --- | --- | --- | --- |"]
        lines += [*map(_row, entries), ""]
    return "\n".join(lines)


def flow_diagram(inputs: ReportInputs) -> list[str]:
    """Return the lines of a diagram from the files found to the images studied, as STARD asks for, as text."""
    if inputs.images is None or inputs.images.info is None:
        return ["**OPEN**: the manifest, which has the numbers, was not given for this report."]
    info, roles = inputs.images.info, inputs.images.facts["role"].value_counts()
    excluded = sorted(info.excluded.items(), key=lambda item: (-item[1], item[0]))
    tested = ", ".join(
        f"{label} {sum(by_source.values()):,}" for label, by_source in inputs.results.counts.items() if by_source
    )
    lines = [f"{info.files:,} files found", "│"]
    lines += [
        f"├─► {sum(info.excluded.values()):,} excluded",
        *(f"│     {n:,} {reason}" for reason, n in excluded),
        "│",
    ]
    lines += [f"{len(inputs.images.facts):,} images in the manifest", "│"]
    outside = (
        ("external", "in no fold, tested by every network"),
        ("contrast", "of none of the classes, tested only"),
        ("outside", "of none of the classes, in no fold, tested by every network"),
    )
    lines += [f"├─► {int(roles[role]):,} {role} ({meaning})" for role, meaning in outside if role in roles]
    studied = f"└─► {inputs.results.images:,} studied in {inputs.study.folds} folds, each tested once per strategy"
    return ["```text", *lines, studied, f"      {tested}", "```"]


def entry(item: Item, facts: Mapping[str, str]) -> Entry:
    """Fill `item` with `facts`; it stays open if a fact is missing."""
    needed = {name for _, name, _, _ in string.Formatter().parse(item.fill) if name}
    if not item.fill or not needed <= facts.keys():
        why = "not computed or not recorded for this report; " if item.fill else ""
        hint = f" – {item.hint}" if item.hint else ""
        return Entry(item, f"**OPEN**: {why}to be written by the authors{hint}", OPEN)
    filled = item.fill.format(**facts)
    if not item.hint:
        return Entry(item, filled, FILLED)
    return Entry(item, f"{filled} **OPEN**: to be added by the authors – {item.hint}", PARTLY)


def checklists() -> list[Checklist]:
    """Return the checklists, in the order of the study card."""
    path = resources.files("cxr_platform").joinpath("evaluation/card_items.json")
    lists = json.loads(path.read_text(encoding="utf-8"))["lists"]
    return [Checklist(t["name"], t["title"], t["original"], [Item(**i) for i in t["items"]]) for t in lists]


def _preface(entries: Sequence[Entry]) -> list[str]:
    number = {state: sum(entry.state == state for entry in entries) for state in (FILLED, PARTLY, OPEN)}
    return [
        f"**{number[FILLED]} of {len(entries)} items filled automatically, {number[PARTLY]} in part, "
        f"{number[OPEN]} open.**",
        "",
        "Items are paraphrased, not quoted. Check text and numbers against the originals, which are named below, "
        "before you submit them. The automatic text comes from the study's record, its manifest and its report. "
        "A filled "
        "item describes what was done, not whether it was sufficient.",
    ]


def _row(entry: Entry) -> str:
    cells = (entry.item.number, entry.item.section, entry.item.text, entry.text)
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"
