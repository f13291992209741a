from pathlib import Path

import pytest

from pipelines.phantoms import main


def test_it_draws_the_collection_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--out", str(tmp_path), "--per-class", "1", "--seed", "4", "--size", "128"]) == 0
    assert capsys.readouterr().out == f"Synthetic images: {tmp_path / 'phantoms'}\n"
    assert len(list((tmp_path / "phantoms" / "images").iterdir())) == 14


def test_a_request_that_cannot_be_served_is_exit_code_2_and_one_paragraph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["--out", str(tmp_path), "--per-class", "0"]) == 2
    assert capsys.readouterr().err == "phantoms: expected at least 1 image a class. Received: 0.\n"


def test_out_has_to_be_given(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err
