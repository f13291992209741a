"""The report of a study: checks its predictions, computes every figure anew and writes them down together."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.errors import StorageError
from cxr_platform.evaluation.canvas import Picture
from cxr_platform.evaluation.figures import accuracy_chart, confusion_picture
from cxr_platform.evaluation.outcome import Outcome, study_outcome
from cxr_platform.evaluation.page import render
from cxr_platform.evaluation.predictions import check_against_manifest, load_predictions
from cxr_platform.evaluation.results import results_tree
from cxr_platform.evaluation.study import read_study
from cxr_platform.evaluation.table import to_csv, to_markdown
from cxr_platform.evaluation.tables import report_tables

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

PARTIAL, PREVIOUS = ".report.partial", ".report.previous"


def write_report(
    study_folder: Path, progress: Callable[[str], None] | None = None, manifest: "Manifest | None" = None
) -> Path:
    """Write `report/` and `results.json` in `study_folder`; returns the path of `report/index.html`.

    The report is built beside its place and moved there whole, so that an interruption leaves the previous one.
    With `manifest` the predictions are also checked to cover exactly its study images.
    Raises `StudyError` or `PredictionsError` for a study that is incomplete, `StorageError` where it cannot write.
    """
    say = progress or (lambda _: None)
    say("checking predictions")
    outcome = _outcome(study_folder, manifest)
    say(f"drawing {1 + len(outcome.results)} figures")
    pictures = [accuracy_chart(outcome), *(confusion_picture(outcome, r) for r in outcome.results.values())]
    say("writing the report")
    try:
        return _store(study_folder, outcome, pictures)
    except OSError as error:
        raise StorageError(
            f"Expected to write the report in {study_folder}.",
            received=error.strerror or error,
            advice="Free some space or give the folder write permission; the study itself is untouched.",
        ) from error


def _outcome(folder: Path, manifest: "Manifest | None") -> Outcome:
    study = read_study(folder)
    predictions = load_predictions(folder, study)
    if manifest is not None:
        images = manifest.table(["image_id", "role", "label"])
        check_against_manifest(predictions, study, images, manifest.content_hash)
    return study_outcome(study, predictions)


def _store(folder: Path, outcome: Outcome, pictures: Sequence[Picture]) -> Path:
    partial, place = folder / PARTIAL, folder / "report"
    figures = json.dumps(results_tree(outcome), indent=1, allow_nan=False) + "\n"
    if partial.exists():  # left by an interrupted run
        shutil.rmtree(partial)
    _write_all(partial, outcome, pictures, figures)
    _replace_folder(partial, place, folder / PREVIOUS)
    _replace_file(folder / "results.json", figures)
    return place / "index.html"


def _write_all(folder: Path, outcome: Outcome, pictures: Sequence[Picture], figures: str) -> None:
    tables = report_tables(outcome)
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True)
    for table in tables.values():
        (folder / "tables" / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
        (folder / "tables" / f"{table.name}.md").write_text(to_markdown(table), encoding="utf-8")
    for picture in pictures:
        (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
    (folder / "results.json").write_text(figures, encoding="utf-8")
    (folder / "index.html").write_text(render(outcome, tables, pictures), encoding="utf-8")


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
