"""One part of the report: what a topic has to say, in words, tables and pictures."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any, Protocol, cast

from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.resource_use import ResourceUse
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.evaluation.summary import Summary, summarize
from cxr_platform.evaluation.table import Table


@dataclass(frozen=True)
class Section:
    """`lead` are sentences that come first; `absent` says why there is nothing to show, where that is so.

    `pictures` and `tables` are shown in their order, `folded` tables behind a disclosure. `warnings` stand out.
    `values` go into results.json under `name`: plain JSON values, rates in percent, undefined as `None`.
    """

    name: str
    title: str
    lead: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    warnings: tuple[str, ...] = ()
    absent: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


# What a report consists of before it is written: words, tables and pictures, each under a name of its own.


FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, eq=False)
class ReportContents:
    """`tables` and `pictures` are those beside the sections': the paper's tables, accuracy, confusion matrices.

    Raises `ValueError` where two sections, tables or pictures share a name, or one is not fit for a file.
    """

    results: StudyResults
    findings: Findings
    tables: Mapping[str, Table]
    pictures: Sequence[Picture]
    sections: Sequence[Section]
    compute: ResourceUse

    def __post_init__(self) -> None:
        _check("section", (section.name for section in self.sections))
        _check("table", (table.name for table in self.all_tables))
        _check("picture", (picture.name for picture in self.all_pictures))

    @cached_property
    def summary(self) -> Summary:
        """The first lines."""
        return summarize(self.results, self.findings)

    @property
    def all_tables(self) -> list[Table]:
        """Every table, each of which becomes two files."""
        return [*self.tables.values(), *(t for section in self.sections for t in (*section.tables, *section.folded))]

    @property
    def all_pictures(self) -> list[Picture]:
        """Every picture, each of which becomes a PNG."""
        return [*self.pictures, *(picture for section in self.sections for picture in section.pictures)]


def _check(kind: str, names: Iterator[str]) -> None:
    counted = Counter(names)
    doubled = [name for name, n in counted.items() if n > 1]
    unfit = [name for name in counted if not FILE_NAME.fullmatch(name)]
    if doubled or unfit:
        raise ValueError(f"Expected one {kind} a name, in small letters. Received: {', '.join(doubled + unfit)}.")


# Every topic of the report in turn: what it finds, and the section that says it.


class SectionModule(Protocol):
    """A module of `sections`."""

    TITLE: str

    def find(self, inputs: ReportInputs) -> Any:
        """The numbers."""

    def section(self, inputs: ReportInputs, found: Any) -> Section:
        """Words, tables and pictures."""


def section_modules() -> dict[str, SectionModule]:
    """All topics by the name of their module, in the order of the report."""
    from cxr_platform.evaluation.sections import (
        atlas,
        calibration,
        comparison,
        explanations,
        external,
        failures,
        figures_of_merit,
        leakage,
        left_out,
        shortcuts,
        sources,
        subgroups,
    )

    figures = (figures_of_merit, comparison)
    belief = (sources, shortcuts, external, left_out, leakage, explanations)
    detail = (calibration, subgroups, failures, atlas)
    return {_name(module): cast(SectionModule, module) for module in (*figures, *belief, *detail)}


def compose(
    inputs: ReportInputs,
    progress: Callable[[str, int, int], None] | None = None,
    among: Mapping[str, SectionModule] | None = None,
) -> tuple[Findings, list[Section]]:
    """Findings and sections of all topics (`among` them, where given); `progress` is told each topic, done and all."""
    say, chosen = progress or (lambda *_: None), among or section_modules()
    found: dict[str, Any] = {}
    sections = []
    for done, (name, topic) in enumerate(chosen.items()):
        say(topic.TITLE, done, len(chosen))
        found[name] = topic.find(inputs)
        sections.append(topic.section(inputs, found[name]))
    say("All sections", len(chosen), len(chosen))
    return findings(found), sections


def findings(found: Mapping[str, Any]) -> Findings:
    """What the first lines and the study card repeat, out of what each topic found; the winner's figures stand first
    in those of `figures_of_merit`."""
    winner = found["figures_of_merit"][0].pooled
    probes, source_probes = found["shortcuts"]
    return Findings(
        accuracy=winner["accuracy_7_class"],
        sensitivity=winner["sensitivity"],
        specificity=winner["specificity"],
        comparisons=found["comparison"],
        association=found["sources"],
        calibration=found["calibration"].finding,
        probes=probes,
        source_probes=source_probes,
        external=found["external"],
        left_out=found["left_out"],
        within=found["subgroups"].within,
        lungs=found["explanations"],
        leakage=found["leakage"] and found["leakage"].finding,
    )


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]
