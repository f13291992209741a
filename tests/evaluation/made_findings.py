"""Findings, sections and reports for tests: nothing contradicts the study unless a test changes it."""

from collections.abc import Sequence
from typing import Any

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import (
    Association,
    ExternalFinding,
    Findings,
    LungShare,
    OutsideFinding,
    ProbeFinding,
    SourceFinding,
    StrategyComparison,
    WithinSources,
)
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_contents import ReportContents, Section
from cxr_platform.evaluation.report_tables import report_tables
from cxr_platform.evaluation.resource_use import ResourceUse
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.evaluation.table import Row, Table

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63f8cfc0f01f00050001ff"
    "56c72f0d0000000049454e44ae426082"
)
TWO_SOURCES = Association(0.12, {}, 2)
SINGLE = Association(0.87, {"Edema": "nih", "Effusion": "nih", "Pneumonia": "kermany"}, 4)
CONTRADICTION = ExternalFinding(
    source="actualmed",
    measure="specificity",
    label="Normal",
    strategy="scratch",
    images=18,
    wrong=14,
    internal=Interval(98.5, 97.4, 99.2),
    external=Interval(22.22, 5.56, 44.44),
    contradicts=True,
)
OUTSIDE = OutsideFinding(
    source="shenzhen",
    finding="tuberculosis",
    whole=True,
    strategy="scratch",
    images=200,
    groups=190,
    called=108,
    shares=(Interval(54.0, 47.0, 61.0), *[Interval(46 / 6, 5.0, 10.0)] * 6),
    internal=Interval(2.1, 1.5, 2.8),
    higher=True,
)
WITHIN = WithinSources(
    label="Covid19",
    sources=("actualmed", "cohen"),
    images=300,
    others=35,
    contrast=18,
    groups=30,
    auc=Interval(0.612, 0.51, 0.7, ratio=True),
    specificity=Interval(40.0, 24.3, 57.6),
    compared=17,
    auc_compared=Interval(0.634, 0.52, 0.71, ratio=True),
    specificity_compared=Interval(41.2, 24.9, 58.1),
    auc_elsewhere=Interval(0.985, 0.97, 0.99, ratio=True),
    specificity_elsewhere=Interval(98.5, 97.9, 99.0),
    falls=True,
)
RESOURCE_USE = ResourceUse(80, 7200.0, 14400.0, 1800.0, 3600.0)
LUNGS_SEEN = LungShare("scratch", 40, Interval(61.0, 57.0, 65.0), 30.0, low=False)


def probe(name: str = "lungs-only", accuracy: float = 80.0, *, shortcut: bool = False) -> ProbeFinding:
    figure = Interval(accuracy, accuracy - 2, accuracy + 2)
    return ProbeFinding(
        name, name.replace("-", " "), figure, figure, figure, Interval(88.0, 86.0, 90.0), 34.0, shortcut, "A sentence."
    )


def source_probe(accuracy: float) -> SourceFinding:
    return SourceFinding("whole-image", Interval(accuracy, accuracy - 2, accuracy + 2), 56.0, 4)


def comparison(other: str, difference: float, low: float, high: float, p: float, pairs: int = 3) -> StrategyComparison:
    return StrategyComparison("scratch", other, Interval(difference, low, high, signed=True), p / 2, p, pairs)


def findings(**changes: Any) -> Findings:
    """Two balanced sources, a harmless probe; `changes` replace fields."""
    fields: dict[str, Any] = {
        "accuracy": Interval(87.66, 86.1, 89.2),
        "sensitivity": Interval(97.4, 95.0, 99.0),
        "specificity": Interval(99.4, 99.0, 99.8),
        "comparisons": (),
        "association": TWO_SOURCES,
        "probes": (probe(),),
    }
    return Findings(**{**fields, **changes})


def table(name: str) -> Table:
    return Table(name, f"Table {name}", ("Class",), ("images",), (Row(("Normal",), (3,)),))


def section(name: str, **fields: Any) -> Section:
    return Section(name, **{"title": f"Section {name}", "lead": (f"Sentence of {name}.",), **fields})


def full_section(name: str) -> Section:
    """One of everything."""
    return section(
        name,
        pictures=(Picture(f"{name}-picture", f"Caption of {name}.", f"Picture of {name}: one pixel, 3.00 %.", PIXEL),),
        tables=(table(f"{name}-table"),),
        folded=(table(f"{name}-folded"),),
        values={"rate": 3.0, "undefined": None},
    )


def contents(
    results: StudyResults,
    sections: Sequence[Section] = (),
    with_findings: Findings | None = None,
    pictures: int = 2,
    resource_use: ResourceUse = RESOURCE_USE,
) -> ReportContents:
    """A report whose own pictures are one pixel each."""
    drawn = [
        Picture(f"drawn-{n}", f"Caption {n}.", f"Picture {n} of the study, one pixel.", PIXEL) for n in range(pictures)
    ]
    return ReportContents(results, with_findings or findings(), report_tables(results), drawn, sections, resource_use)
