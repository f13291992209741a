"""The contents of a report before it is written: sections, tables and pictures, and how sections are computed."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, cast

from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.resource_use import ResourceUse
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.evaluation.summary import Summary, summarize
from cxr_platform.evaluation.table import Table
from cxr_platform.progress import NoProgress, Progress

FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Section:
    """One section of the report.

    `lead` sentences come first, then `pictures`, `tables`, and `folded` tables behind a disclosure. `warnings` stand
    out. `absent` is the reason if there is nothing to show. `values` go into results.json under `name`: plain JSON
    values, rates in percent, undefined as `None`.
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


@dataclass(frozen=True, eq=False)
class ReportContents:
    """All of a report; `tables` and `pictures` are those outside the sections.

    Raises `ValueError` if two sections, tables or pictures share a name, or one is not a file name.
    """

    results: StudyResults
    findings: Findings
    tables: Mapping[str, Table]
    pictures: Sequence[Picture]
    sections: Sequence[Section]
    resource_use: ResourceUse

    def __post_init__(self) -> None:
        _check_names("section", (section.name for section in self.sections))
        _check_names("table", (table.name for table in self.all_tables))
        _check_names("picture", (picture.name for picture in self.all_pictures))

    @cached_property
    def summary(self) -> Summary:
        """The first page."""
        return summarize(self.results, self.findings)

    @property
    def all_tables(self) -> list[Table]:
        """Every table, those of sections included."""
        return [*self.tables.values(), *(t for section in self.sections for t in (*section.tables, *section.folded))]

    @property
    def all_pictures(self) -> list[Picture]:
        """Every picture, those of sections included."""
        return [*self.pictures, *(picture for section in self.sections for picture in section.pictures)]


def _check_names(kind: str, names: Iterator[str]) -> None:
    counted = Counter(names)
    wrong = [name for name, n in counted.items() if n > 1]
    wrong += [name for name in counted if not FILE_NAME.fullmatch(name)]
    if wrong:
        raise ValueError(f"Expected unique {kind} names in lower case. Received: {', '.join(wrong)}.")


class SectionModule(Protocol):
    """What a module of `sections` needs in order to be a section of the report.

    `compute` and `render` are apart because the summary and the study card repeat numbers without the text.
    """

    NAME: str
    """Key in `results.json` and anchor in the page."""
    TITLE: str

    def compute(self, inputs: ReportInputs) -> Any:
        """Return the numbers of the section; empty or `None` if there is nothing to compute them from."""

    def render(self, inputs: ReportInputs, numbers: Any) -> Section:
        """Return text, tables and pictures for what `compute` returned, or the reason why there are none."""


def section_modules() -> dict[str, SectionModule]:
    """Return all section modules by name, in the order of the report."""
    from cxr_platform.evaluation.sections import (
        atlas,
        calibration,
        corruptions,
        explanations,
        external,
        failures,
        hospitals,
        leakage,
        left_out,
        measures,
        net_benefit,
        outside,
        prediction_sets,
        reader_labels,
        shortcuts,
        sources,
        strata,
        strategy_comparison,
        subgroups,
        unseen_hospitals,
        within_sources,
    )

    performance = (measures, strategy_comparison)
    credibility = (
        within_sources,
        sources,
        shortcuts,
        external,
        strata,
        outside,
        left_out,
        hospitals,
        unseen_hospitals,
        leakage,
        reader_labels,
        explanations,
    )
    detail = (calibration, prediction_sets, net_benefit, corruptions, subgroups, failures, atlas)
    modules = (*performance, *credibility, *detail)
    return {module.__name__.rpartition(".")[2]: cast(SectionModule, module) for module in modules}


def compose(
    inputs: ReportInputs, progress: Progress | None = None, modules: Mapping[str, SectionModule] | None = None
) -> tuple[Findings, list[Section]]:
    """Compute findings and sections of all section modules, or of `modules`."""
    progress, modules = progress or NoProgress(), modules or section_modules()
    numbers: dict[str, Any] = {}
    sections = []
    for done, (name, module) in enumerate(modules.items()):
        progress.step(module.TITLE, done, len(modules))
        numbers[name] = module.compute(inputs)
        sections.append(module.render(inputs, numbers[name]))
    progress.step("All sections", len(modules), len(modules))
    return findings(numbers, inputs.undertrained), sections


def findings(numbers: Mapping[str, Any], undertrained: Sequence[str] = ()) -> Findings:
    """Return the findings among the `numbers` per section module; `measures` has the winner first."""
    winner = numbers["measures"][0].pooled
    return Findings(
        accuracy=winner["accuracy_7_class"],
        sensitivity=winner["sensitivity"],
        specificity=winner["specificity"],
        comparisons=numbers["strategy_comparison"].comparisons,
        picked=numbers["strategy_comparison"].picked,
        association=numbers["sources"],
        calibration=numbers["calibration"].finding,
        probes=numbers["shortcuts"].probes,
        source_probes=numbers["shortcuts"].sources,
        external=numbers["external"].rates,
        outside=numbers["outside"],
        left_out=numbers["left_out"],
        within=numbers["within_sources"].leading,
        hospitals=numbers["unseen_hospitals"].leading or numbers["hospitals"].leading,
        unseen=numbers["unseen_hospitals"].finding,
        lungs=numbers["explanations"],
        leakage=numbers["leakage"] and numbers["leakage"].finding,
        undertrained=undertrained,
    )
