"""The report of a study: page, tables, pictures, results and study card, written down together."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from cxr_platform.errors import StorageError
from cxr_platform.evaluation.canvas import Picture
from cxr_platform.evaluation.compute import read_compute
from cxr_platform.evaluation.contents import Contents
from cxr_platform.evaluation.figures import accuracy_chart, confusion_picture
from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.page import render
from cxr_platform.evaluation.report_inputs import Material
from cxr_platform.evaluation.results import results_tree
from cxr_platform.evaluation.section import Section
from cxr_platform.evaluation.study_card import study_card
from cxr_platform.evaluation.study_results import Outcome
from cxr_platform.evaluation.table import to_csv, to_markdown
from cxr_platform.evaluation.tables import report_tables

PARTIAL, PREVIOUS = ".report.partial", ".report.previous"


def write_report(
    study_folder: Path,
    material: Material,
    sections: Sequence[Section],
    findings: Findings,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write `report/` and `results.json` in `study_folder`; returns the path of `report/index.html`.

    `sections` and `findings` are those of `compose.compose(material, …)`. The report is built beside its place and
    moved there whole, so that an interruption leaves the previous one. Raises `StorageError` where it cannot write,
    `ValueError` where two sections, tables or pictures share a name.
    """
    say, outcome = progress or (lambda _: None), material.outcome
    say(f"drawing {1 + len(outcome.results)} figures")
    compute = read_compute(study_folder, outcome.study)
    contents = Contents(outcome, findings, report_tables(outcome), _pictures(outcome), sections, compute)
    say("writing the report")
    try:
        return _store(study_folder, material, contents)
    except OSError as error:
        raise StorageError(
            f"Expected to write the report in {study_folder}.",
            received=error.strerror or error,
            advice="Free some space or give the folder write permission; the study itself is untouched.",
        ) from error


def _pictures(outcome: Outcome) -> list[Picture]:
    return [accuracy_chart(outcome), *(confusion_picture(outcome, r) for r in outcome.results.values())]


def _store(folder: Path, material: Material, contents: Contents) -> Path:
    partial, place = folder / PARTIAL, folder / "report"
    figures = json.dumps(results_tree(contents), indent=1, allow_nan=False) + "\n"
    if partial.exists():  # left by an interrupted run
        shutil.rmtree(partial)
    _write_all(partial, contents, figures)
    (partial / "STUDY_CARD.md").write_text(study_card(material, contents), encoding="utf-8")
    _replace_folder(partial, place, folder / PREVIOUS)
    _replace_file(folder / "results.json", figures)
    return place / "index.html"


def _write_all(folder: Path, contents: Contents, figures: str) -> None:
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True)
    for table in contents.all_tables:
        (folder / "tables" / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
        (folder / "tables" / f"{table.name}.md").write_text(to_markdown(table), encoding="utf-8")
    for picture in contents.all_pictures:
        (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
    (folder / "results.json").write_text(figures, encoding="utf-8")
    (folder / "index.html").write_text(render(contents), encoding="utf-8")


def _replace_folder(new: Path, place: Path, previous: Path) -> None:
    shutil.rmtree(previous, ignore_errors=True)
    if place.exists():
        place.rename(previous)
    new.rename(place)
    shutil.rmtree(previous, ignore_errors=True)


def _replace_file(place: Path, content: str) -> None:
    partial = place.with_name(f".{place.name}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(place)
