import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from cxr_platform.errors import StorageError
from cxr_platform.evaluation import report
from cxr_platform.evaluation.report import write_report
from cxr_platform.evaluation.report_inputs import load_material
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.found import findings, full_section, section

FRAME = drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}, folds=3)
SECTIONS = [full_section("sources"), section("atlas", absent="No weights.")]
TABLES = {
    "summary",
    "folds",
    "sources-table",
    "sources-folded",
    "confusion-off-the-shelf",
    "confusion-scratch",
    *(f"table-{n}" for n in range(1, 8)),
}


def write(folder: Path, progress=None, sections=SECTIONS) -> Path:
    return write_report(folder, load_material(folder), sections, findings(), progress)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("runs") / "test", FRAME)
    write(folder)
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A study with a report, to be changed by the test."""
    return Path(shutil.copytree(finished, tmp_path / "test"))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_report_holds_page_results_tables_and_figures(finished):
    place = finished / "report"

    assert {p.name for p in place.iterdir()} == {
        "index.html", "results.json", "STUDY_CARD.md", "tables", "figures"
    }  # fmt: skip
    assert {p.name for p in (place / "tables").iterdir()} == {f"{t}.{kind}" for t in TABLES for kind in ("csv", "md")}
    assert {p.name for p in (place / "figures").iterdir()} == {
        "accuracy.png", "confusion-off-the-shelf.png", "confusion-scratch.png", "sources-picture.png"
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

    write(study)

    assert everything(study / "report") == everything(finished / "report")


def test_progress_is_told(study):
    steps: list[str] = []

    assert write(study, steps.append) == study / "report" / "index.html"
    assert steps == ["drawing 3 figures", "writing the report"]


def test_sections_reach_the_page_the_results_and_the_card(finished):
    results = json.loads((finished / "results.json").read_text())

    assert results["sections"]["sources"]["values"]["rate"] == 3.0
    assert "No weights." in (finished / "report" / "index.html").read_text()
    assert (finished / "report" / "STUDY_CARD.md").read_text().startswith("# Study card: test\n")


def test_two_tables_of_one_name_leave_the_previous_report(study, finished):
    with pytest.raises(ValueError, match="one table a name"):
        write(study, sections=[full_section("sources"), section("b", tables=full_section("sources").tables)])

    assert everything(study / "report") == everything(finished / "report")


def test_an_interruption_while_writing_leaves_the_previous_report(study, finished, monkeypatch):
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "render", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(study)
    assert everything(study / "report") == everything(finished / "report")

    write(study)
    assert {p.name for p in study.iterdir()} == {p.name for p in finished.iterdir()}


def test_a_place_that_cannot_be_written_is_named(study):
    (study / ".report.partial").write_text("a file where the report would be built")

    with pytest.raises(StorageError, match=r"Expected to write the report in .*test\. Received: Not a directory"):
        write(study)
