"""Write the report of a study: HTML page, tables, pictures, results.json and study card."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.formatting import flatten, text
from cxr_platform.evaluation.limits import known_patients
from cxr_platform.evaluation.paper import ARXIV_ID, paper_tables
from cxr_platform.evaluation.pictures import accuracy_chart, confusion_picture
from cxr_platform.evaluation.report_contents import ReportContents, Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.report_tables import report_tables
from cxr_platform.evaluation.resource_use import (
    cache_line,
    machines_line,
    numerics_line,
    read_resource_use,
    resource_use_line,
)
from cxr_platform.evaluation.results_json import results_tree
from cxr_platform.evaluation.study_card import study_card
from cxr_platform.evaluation.summary import PROTOCOL_MEANING
from cxr_platform.evaluation.table import SYNTHETIC, to_csv, to_markdown
from cxr_platform.progress import NoProgress, Progress
from cxr_platform.storage.files import new_folder, remove_leftovers, write_atomically

CHAPTERS: Mapping[str, tuple[str, ...]] = {
    "Performance": ("strategies", "intervals", "comparison"),
    "Credibility": (
        *(
            "within_sources",
            "sources",
            "shortcuts",
            "external",
            "strata",
            "outside",
            "left_out",
            "hospitals",
            "leakage",
        ),
        *("reader_labels", "explanations"),
    ),
    "Details": ("calibration", "prediction_sets", "net_benefit", "corruptions", "subgroups", "failures", "atlas"),
    "The paper and the set-up": ("paper", "matrices", "set-up"),
}
"""Chapter → its parts in order; sections that are not listed go to the end of `OTHERS`."""
OTHERS = "Details"
BUILT_IN: Mapping[str, str] = {
    "strategies": "Comparison of strategies",
    "paper": "The paper's tables",
    "matrices": "Confusion matrices",
    "set-up": "Set-up",
}
"""Parts that the template writes itself, with their titles."""


@dataclass(frozen=True)
class Part:
    """An anchor of the page; `section` is `None` for `BUILT_IN` parts."""

    name: str
    title: str
    section: Section | None = None


@dataclass(frozen=True)
class Chapter:
    """Parts under one heading."""

    title: str
    parts: tuple[Part, ...]


def write_report(
    study_folder: Path,
    inputs: ReportInputs,
    sections: Sequence[Section],
    findings: Findings,
    progress: Progress | None = None,
) -> Path:
    """Write `report/` and `results.json` in `study_folder`; return the path of `report/index.html`.

    `sections` and `findings` come from `report_contents.compose`. An interruption leaves the previous report. Raise
    `StorageError` if a file cannot be written, `ValueError` if two sections, tables or pictures share a name.
    """
    progress, results = progress or NoProgress(), inputs.results
    progress.message(f"Drawing {1 + len(results.strategies)} pictures")
    pictures = [accuracy_chart(results), *(confusion_picture(results, r) for r in results.strategies.values())]
    resource_use = read_resource_use(study_folder, results.study)
    contents = ReportContents(results, findings, report_tables(results), pictures, sections, resource_use)
    progress.message("Writing the report")
    results_json = json.dumps(results_tree(contents), indent=1, allow_nan=False) + "\n"
    report = study_folder / "report"
    remove_leftovers(report)
    with new_folder(report, "index.html") as folder:
        for name in ("tables", "figures"):
            (folder / name).mkdir(parents=True)
        for table in contents.all_tables:
            (folder / "tables" / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
            (folder / "tables" / f"{table.name}.md").write_text(to_markdown(table), encoding="utf-8")
        for picture in contents.all_pictures:
            (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
        (folder / "results.json").write_text(results_json, encoding="utf-8")
        (folder / "index.html").write_text(render_html(contents), encoding="utf-8")
        (folder / "STUDY_CARD.md").write_text(study_card(inputs, contents), encoding="utf-8")
    write_atomically(study_folder / "results.json", results_json.encode())
    return report / "index.html"


def render_html(contents: ReportContents) -> str:
    """Return one HTML page with inline styles, pictures as data URIs and no script."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxr_platform", "evaluation/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": text, "data_uri": _data_uri, "prose": _prose}
    study = contents.results.study
    return environment.get_template("report.html.j2").render(
        study=study,
        summary=contents.summary,
        chapters=chapters(contents.sections),
        tables=contents.tables,
        pictures=contents.pictures,
        not_run=[TITLES[name] for name in study.not_run],
        protocol_meaning=PROTOCOL_MEANING[study.protocol],
        known_patients=known_patients(contents.results),
        settings=_dotted(study.profile.to_dict()),
        versions=study.versions,
        hardware=_dotted(study.hardware.model_dump(exclude_none=True)),
        resource_use=resource_use_line(contents.resource_use),
        machines=machines_line(contents.resource_use),
        numerics=numerics_line(contents.resource_use),
        caches=cache_line(contents.resource_use),
        arxiv=ARXIV_ID,
        paper=paper_tables(),
        synthetic_mark=SYNTHETIC,
    )


def chapters(sections: Sequence[Section]) -> list[Chapter]:
    """Return all parts of the page in order."""
    listed = {name for names in CHAPTERS.values() for name in names}
    parts = {section.name: Part(section.name, section.title, section) for section in sections}
    others = [name for name in parts if name not in listed]
    parts |= {name: Part(name, title) for name, title in BUILT_IN.items()}
    return [
        Chapter(title, tuple(parts[n] for n in (*names, *(others if title == OTHERS else ())) if n in parts))
        for title, names in CHAPTERS.items()
    ]


def _prose(sentence: str) -> Markup:
    """Return a sentence as HTML, text in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _dotted(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return nested settings under dotted keys, as in overrides of a profile."""
    return {".".join(path): str(value) for path, value in flatten(tree)}
