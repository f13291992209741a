"""The report as one HTML page that needs nothing beside it."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxr_platform.evaluation.answer import PROTOCOL_MEANING, answer, confounding
from cxr_platform.evaluation.canvas import Picture
from cxr_platform.evaluation.outcome import Outcome
from cxr_platform.evaluation.paper import ARXIV_ID, STRATEGIES, paper_tables
from cxr_platform.evaluation.table import SYNTHETIC, Table, text

if TYPE_CHECKING:
    from jinja2 import Template


def render(outcome: Outcome, tables: Mapping[str, Table], pictures: Sequence[Picture]) -> str:
    """HTML with styles inline, pictures as data URIs and no script. `pictures` starts with the accuracy chart."""
    study = outcome.study
    return _template().render(
        study=study,
        answer=answer(outcome),
        tables=tables,
        pictures=pictures,
        confounding=confounding(outcome),
        not_run=[STRATEGIES[name] for name in study.not_run],
        protocol_meaning=PROTOCOL_MEANING[study.protocol],
        settings=_flat(study.profile),
        versions=_flat(study.versions),
        hardware=_flat(study.hardware),
        arxiv=ARXIV_ID,
        paper=paper_tables(),
        synthetic_mark=SYNTHETIC,
    )


def _template() -> "Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxr_platform", "evaluation/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": text, "data_uri": _data_uri}
    return environment.get_template("report.html.j2")


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys, the form in which a profile's settings are overridden."""
    if not isinstance(tree, Mapping):
        return {prefix: str(tree)}
    nested = (_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items())
    return {key: value for flat in nested for key, value in flat.items()}
