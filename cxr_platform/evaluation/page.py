"""The report as one HTML page that needs nothing beside it."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.compute import compute_line, machines_line
from cxr_platform.evaluation.contents import Contents
from cxr_platform.evaluation.flatten import leaves
from cxr_platform.evaluation.paper import ARXIV_ID, paper_tables
from cxr_platform.evaluation.section import Section
from cxr_platform.evaluation.summary import PROTOCOL_MEANING
from cxr_platform.evaluation.table import SYNTHETIC, text

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

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


def render(contents: Contents) -> str:
    """HTML with styles inline, pictures as data URIs and no script. `contents.pictures` starts with accuracy."""
    study = contents.outcome.study
    return _template().render(
        study=study,
        answer=contents.answer,
        chapters=chapters(contents.sections),
        tables=contents.tables,
        pictures=contents.pictures,
        not_run=[TITLES[name] for name in study.not_run],
        protocol_meaning=PROTOCOL_MEANING[study.protocol],
        settings=_flat(study.profile),
        versions=_flat(study.versions),
        hardware=_flat(study.hardware),
        compute=compute_line(contents.compute),
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
    return {".".join(path): str(value) for path, value in leaves(tree)}
