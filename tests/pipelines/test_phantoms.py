from pathlib import Path

import pytest

from cxr_platform.intake.layouts.phantoms import IMAGES_FOLDER
from pipelines.phantoms import main


def test_the_collection_is_drawn_and_its_folder_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--out", str(tmp_path), "--per-class", "1", "--seed", "4", "--size", "128"]) == 0
    assert capsys.readouterr().out == f"Synthetic images: {tmp_path / 'phantoms'}\n"
    assert len(list((tmp_path / "phantoms" / IMAGES_FOLDER).iterdir())) == 14


def test_a_number_out_of_range_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--out", str(tmp_path), "--per-class", "0"]) == 2
    assert capsys.readouterr().err == "phantoms: per_class: expected greater than or equal to 1. Received: 0.\n"


def test_out_is_required(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err
