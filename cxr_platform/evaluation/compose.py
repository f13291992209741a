"""Every topic of the report in turn: what it finds, and the section that says it."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol, cast

from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.report_inputs import Material
from cxr_platform.evaluation.section import Section


class Topic(Protocol):
    """A module of `sections`."""

    TITLE: str

    def find(self, material: Material) -> Any:
        """The numbers."""

    def section(self, material: Material, found: Any) -> Section:
        """Words, tables and pictures."""


def topics() -> dict[str, Topic]:
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
    return {_name(module): cast(Topic, module) for module in (*figures, *belief, *detail)}


def compose(
    material: Material,
    progress: Callable[[str, int, int], None] | None = None,
    among: Mapping[str, Topic] | None = None,
) -> tuple[Findings, list[Section]]:
    """Findings and sections of all topics (`among` them, where given); `progress` is told each topic, done and all."""
    say, chosen = progress or (lambda *_: None), among or topics()
    found: dict[str, Any] = {}
    sections = []
    for done, (name, topic) in enumerate(chosen.items()):
        say(topic.TITLE, done, len(chosen))
        found[name] = topic.find(material)
        sections.append(topic.section(material, found[name]))
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
