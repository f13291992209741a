from pathlib import Path

import pytest

from pipelines.track import main
from tests.tracking.builders import make_study

pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")


def test_an_unchanged_study_is_logged_once(tmp_path: Path, capsys):
    study, place = make_study(tmp_path / "runs" / "test"), tmp_path / "elsewhere"

    assert main(["--study", str(study), "--tracking-uri", str(place)]) == 0
    first = capsys.readouterr().out.splitlines()
    assert main(["--study", str(study), "--tracking-uri", str(place)]) == 0
    second = capsys.readouterr().out.splitlines()

    assert "logged with 3 trials" in first[0]
    assert "nothing was logged" in second[0]
    assert first[1] == second[1]
    assert first[1].startswith("Run ")
    assert not (tmp_path / "runs" / "mlruns").exists()


def test_a_missing_study_is_an_error_and_exit_code_2(tmp_path: Path, capsys):
    assert main(["--study", str(tmp_path / "absent")]) == 2

    output = capsys.readouterr()
    assert "Expected the record of a study" in output.err
    assert output.out == ""
