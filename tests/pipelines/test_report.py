import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.report import main
from tests.evaluation.builders import drawn_frame, write_study

FRAME = drawn_frame({"scratch": 0.9}, folds=3)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "runs" / "test", FRAME)


def test_the_five_lines_and_the_page_are_printed(study, capsys):
    assert main(["--study", str(study)]) == 0

    *lines, page = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "What was compared",
        "What won",
        "By how much",
        "Can it be believed",
        "What to do next",
    ]
    assert Path(page) == study / "report" / "index.html"
    assert Path(page).is_file()


def test_an_incomplete_study_is_one_paragraph_and_exit_code_2(study, capsys):
    FRAME[FRAME["fold"] != 1].to_parquet(study / "predictions.parquet")

    assert main(["--study", str(study)]) == 2

    output = capsys.readouterr()
    assert output.out == ""
    assert "none for scratch fold 1" in output.err
    assert "Traceback" not in output.err
    assert not (study / "report").exists()


def test_it_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "pipelines.report", "--study", str(tmp_path / "absent")]

    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)

    assert ended.returncode == 2
    assert "Expected the record of a study" in ended.stderr
    assert "Traceback" not in ended.stderr
