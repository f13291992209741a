import csv
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from cxr_platform.errors import PredictionsError, StorageError
from cxr_platform.evaluation import report
from cxr_platform.evaluation.report import write_report
from tests.evaluation.builders import drawn_frame, write_study

FRAME = drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}, folds=3)
TABLES = {
    "summary",
    "counts",
    "folds",
    "confusion-off-the-shelf",
    "confusion-scratch",
    *(f"table-{n}" for n in range(1, 8)),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("runs") / "test", FRAME)
    write_report(folder)
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A study with a report, to be changed by the test."""
    return Path(shutil.copytree(finished, tmp_path / "test"))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_report_holds_page_results_tables_and_figures(finished):
    place = finished / "report"

    assert {p.name for p in place.iterdir()} == {"index.html", "results.json", "tables", "figures"}
    assert {p.name for p in (place / "tables").iterdir()} == {f"{t}.{kind}" for t in TABLES for kind in ("csv", "md")}
    assert {p.name for p in (place / "figures").iterdir()} == {
        "accuracy.png", "confusion-off-the-shelf.png", "confusion-scratch.png"
    }  # fmt: skip


def test_nothing_half_made_is_left_beside_it(finished):
    assert {p.name for p in finished.iterdir()} == {"predictions.parquet", "study.json", "results.json", "report"}


def test_results_stand_in_the_study_and_in_the_report(finished):
    assert (finished / "results.json").read_bytes() == (finished / "report" / "results.json").read_bytes()
    assert json.loads((finished / "results.json").read_text())["winner"]["winner"] == "scratch"


def test_the_csv_files_agree_with_the_results(finished):
    results = json.loads((finished / "results.json").read_text())["strategies"]["scratch"]
    rows = list(csv.DictReader(io.StringIO((finished / "report" / "tables" / "table-5.csv").read_text())))

    assert float(rows[0]["Accuracy 7-class (%)"]) == pytest.approx(results["mean"]["accuracy_7_class"], abs=1e-4)
    assert float(rows[0]["Accuracy 7-class (%), sd"]) == pytest.approx(results["sd"]["accuracy_7_class"], abs=1e-4)


def test_writing_again_gives_the_same_bytes(study, finished):
    (study / "report" / "tables" / "stale.csv").write_text("from an earlier version")

    write_report(study)

    assert everything(study / "report") == everything(finished / "report")


def test_progress_is_told(study):
    steps: list[str] = []

    assert write_report(study, steps.append) == study / "report" / "index.html"
    assert steps == ["checking predictions", "drawing 3 figures", "writing the report"]


@dataclass
class StoredManifest:
    """What the report asks of a manifest."""

    images: pd.DataFrame
    content_hash: str = "b3f0c4de"

    def table(self, columns: list[str]) -> pa.Table:
        return pa.Table.from_pandas(self.images[columns], preserve_index=False)


def test_predictions_are_checked_against_a_manifest_when_there_is_one(study):
    images = FRAME.drop_duplicates("image_id").assign(role="study")

    assert write_report(study, manifest=StoredManifest(images)).is_file()
    with pytest.raises(PredictionsError, match="1 images not in it: image-00000"):
        write_report(study, manifest=StoredManifest(images.iloc[1:]))


def test_refused_predictions_leave_the_previous_report(study, finished):
    FRAME[FRAME["fold"] != 2].to_parquet(study / "predictions.parquet")

    with pytest.raises(PredictionsError, match="off-the-shelf fold 2, scratch fold 2"):
        write_report(study)

    assert everything(study / "report") == everything(finished / "report")


def test_an_interruption_while_writing_leaves_the_previous_report(study, finished, monkeypatch):
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "render", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_report(study)
    assert everything(study / "report") == everything(finished / "report")

    write_report(study)
    assert {p.name for p in study.iterdir()} == {p.name for p in finished.iterdir()}


def test_a_place_that_cannot_be_written_is_named(study):
    (study / ".report.partial").write_text("a file where the report would be built")

    with pytest.raises(StorageError, match=r"Expected to write the report in .*test\. Received: Not a directory"):
        write_report(study)
