"""The report of a study: page, tables, pictures, results and study card, written down together."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.formatting import flatten, text
from cxr_platform.evaluation.paper import ARXIV_ID, paper_tables
from cxr_platform.evaluation.pictures import Picture, accuracy_chart, confusion_picture
from cxr_platform.evaluation.report_contents import ReportContents, Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.report_tables import report_tables
from cxr_platform.evaluation.resource_use import machines_line, read_resource_use, resource_use_line
from cxr_platform.evaluation.results_json import results_tree
from cxr_platform.evaluation.study_card import study_card
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.evaluation.summary import PROTOCOL_MEANING
from cxr_platform.evaluation.table import SYNTHETIC, to_csv, to_markdown
from cxr_platform.storage.files import new_folder, remove_leftovers, write_atomically

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup


def write_report(
    study_folder: Path,
    inputs: ReportInputs,
    sections: Sequence[Section],
    findings: Findings,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write `report/` and `results.json` in `study_folder`; returns the path of `report/index.html`.

    `sections` and `findings` are those of `compose.compose(inputs, …)`. The report is built beside its place and
    moved there whole, so that an interruption leaves the previous one. Raises `StorageError` where it cannot write,
    `ValueError` where two sections, tables or pictures share a name.
    """
    say, results = progress or (lambda _: None), inputs.results
    say(f"drawing {1 + len(results.strategies)} figures")
    compute = read_resource_use(study_folder, results.study)
    contents = ReportContents(results, findings, report_tables(results), _pictures(results), sections, compute)
    say("writing the report")
    figures = json.dumps(results_tree(contents), indent=1, allow_nan=False) + "\n"
    report = study_folder / "report"
    remove_leftovers(report)
    with new_folder(report, "index.html") as partial:
        _write_all(partial, contents, figures)
        (partial / "STUDY_CARD.md").write_text(study_card(inputs, contents), encoding="utf-8")
    write_atomically(study_folder / "results.json", figures.encode())
    return report / "index.html"


def _pictures(results: StudyResults) -> list[Picture]:
    return [accuracy_chart(results), *(confusion_picture(results, r) for r in results.strategies.values())]


def _write_all(folder: Path, contents: ReportContents, figures: str) -> None:
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True)
    for table in contents.all_tables:
        (folder / "tables" / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
        (folder / "tables" / f"{table.name}.md").write_text(to_markdown(table), encoding="utf-8")
    for picture in contents.all_pictures:
        (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
    (folder / "results.json").write_text(figures, encoding="utf-8")
    (folder / "index.html").write_text(render_html(contents), encoding="utf-8")


# The report as one HTML page that needs nothing beside it.


CHAPTERS: Mapping[str, tuple[str, ...]] = {
    "The figures": ("strategies", "intervals", "comparison"),
    "Can it be believed?": ("sources", "shortcuts", "external", "left_out", "leakage", "explanations"),
    "In detail": ("calibration", "subgroups", "failures", "atlas"),
    "The paper and the set-up": ("paper", "matrices", "set-up"),
}
"""Chapter → its parts in order; sections that stand nowhere here go to the end of `OTHERS`."""


OTHERS = "In detail"


BUILT_IN: Mapping[str, str] = {
    "strategies": "The strategies compared",
    "paper": "The paper's tables",
    "matrices": "Confusion matrices",
    "set-up": "How it was made",
}
"""Parts that the template writes itself, with their titles."""


@dataclass(frozen=True)
class Part:
    """An anchor of the page; `section` is `None` for those of `BUILT_IN`."""

    name: str
    title: str
    section: Section | None = None


@dataclass(frozen=True)
class Chapter:
    """Parts under one heading."""

    title: str
    parts: tuple[Part, ...]


def render_html(contents: ReportContents) -> str:
    """HTML with styles inline, pictures as data URIs and no script. `contents.pictures` starts with accuracy."""
    study = contents.results.study
    return _template().render(
        study=study,
        answer=contents.summary,
        chapters=chapters(contents.sections),
        tables=contents.tables,
        pictures=contents.pictures,
        not_run=[TITLES[name] for name in study.not_run],
        protocol_meaning=PROTOCOL_MEANING[study.protocol],
        settings=_flat(study.profile.to_dict()),
        versions=_flat(study.versions),
        hardware=_flat(study.hardware.model_dump(exclude_none=True)),
        compute=resource_use_line(contents.compute),
        machines=machines_line(contents.compute),
        arxiv=ARXIV_ID,
        paper=paper_tables(),
        synthetic_mark=SYNTHETIC,
    )


def chapters(sections: Sequence[Section]) -> list[Chapter]:
    """All parts of the page in their order."""
    placed = {name for names in CHAPTERS.values() for name in names}
    further = tuple(section.name for section in sections if section.name not in placed)
    parts = {section.name: Part(section.name, section.title, section) for section in sections}
    parts |= {name: Part(name, title) for name, title in BUILT_IN.items()}
    return [Chapter(title, tuple(_parts(parts, names, title, further))) for title, names in CHAPTERS.items()]


def _parts(parts: Mapping[str, Part], names: Sequence[str], title: str, further: tuple[str, ...]) -> Iterator[Part]:
    for name in (*names, *(further if title == OTHERS else ())):
        if name in parts:
            yield parts[name]


def _template() -> "Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxr_platform", "evaluation/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": text, "data_uri": _data_uri, "prose": _prose}
    return environment.get_template("report.html.j2")


def _prose(sentence: str) -> "Markup":
    """A sentence as HTML, what stands in backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _flat(tree: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as dotted keys, the form in which a profile's settings are overridden."""
    return {".".join(path): str(value) for path, value in flatten(tree)}
