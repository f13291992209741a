"""STUDY_CARD.md: the items of CLAIM and TRIPOD+AI that a machine can fill, and the rest left visibly open.

`card_items.json` holds each item in our words, a sentence with the names of facts in braces, and a hint for what only
the authors know. An item without a sentence, or of which a fact is not to be had, stays open.
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
    """One item of a list; `fill` and `hint` may be empty."""

    number: str
    section: str
    text: str
    fill: str
    hint: str


@dataclass(frozen=True)
class Checklist:
    """A list and where its own wording stands."""

    name: str
    title: str
    original: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Entry:
    """An item as far as it is filled: `FILLED`, `PARTLY` (the authors have something to add) or `OPEN`."""

    item: Item
    words: str
    state: str


def study_card(inputs: ReportInputs, contents: ReportContents) -> str:
    """The card as Markdown."""
    facts = card_facts(inputs, contents)
    filled = {checklist.name: [entry(item, facts) for item in checklist.items] for checklist in checklists()}
    lines = [f"# Study card: {inputs.study.name}", ""]
    if inputs.synthetic:
        lines += [f"**{SYNTHETIC}**: a program drew images of this study; nothing here holds for patients.", ""]
    lines += [*_preface(filled), ""]
    for checklist in checklists():
        lines += [*_chapter(checklist, filled[checklist.name]), ""]
    return "\n".join(lines)


def entry(item: Item, facts: Mapping[str, str]) -> Entry:
    """`item` with its facts put in; open where a fact is missing."""
    needed = {name for _, name, _, _ in string.Formatter().parse(item.fill) if name}
    if not item.fill or not needed <= facts.keys():
        why = "not computed or not recorded for this report; " if item.fill else ""
        hint = f" – {item.hint}" if item.hint else ""
        return Entry(item, f"**OPEN**: {why}to be written by the authors{hint}", OPEN)
    words = item.fill.format(**facts)
    if not item.hint:
        return Entry(item, words, FILLED)
    return Entry(item, f"{words} **OPEN**: to be added by the authors – {item.hint}", PARTLY)


def checklists() -> list[Checklist]:
    """Both lists, in the order of the card."""
    path = resources.files("cxr_platform").joinpath("evaluation/card_items.json")
    lists = json.loads(path.read_text(encoding="utf-8"))["lists"]
    return [Checklist(t["name"], t["title"], t["original"], [Item(**i) for i in t["items"]]) for t in lists]


def _preface(filled: Mapping[str, Sequence[Entry]]) -> list[str]:
    entries = [entry for entries in filled.values() for entry in entries]
    counted = {state: sum(entry.state == state for entry in entries) for state in (FILLED, PARTLY, OPEN)}
    return [
        f"**{counted[FILLED]} of {len(entries)} items filled by the machine, {counted[PARTLY]} in part, "
        f"{counted[OPEN]} open.**",
        "",
        "Items are paraphrased, not quoted, and their numbers are given from knowledge of the lists: check both "
        "against the originals, which are named below, before you submit them. What the machine wrote comes from "
        "the study's record, its manifest and its report; a filled item tells what was done, not that it was enough.",
    ]


def _chapter(checklist: Checklist, entries: Sequence[Entry]) -> list[str]:
    done = sum(entry.state != OPEN for entry in entries)
    lines = [f"## {checklist.title}", "", f"Original: {checklist.original}", ""]
    lines += [f"{done} of {len(entries)} items filled at least in part.", ""]
    lines += ["| No. | Section | Item | This study |", "| --- | --- | --- | --- |"]
    return [*lines, *(_row(entry) for entry in entries)]


def _row(entry: Entry) -> str:
    cells = (entry.item.number, entry.item.section, entry.item.text, entry.words)
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"
