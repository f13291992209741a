import json
from pathlib import Path

import pandas as pd
import pytest

from cxr_platform.errors import StudyError
from cxr_platform.evaluation.evidence_files import FILES, predictions_hash, read_evidence


def write(folder: Path, name: str, columns: tuple[str, ...]) -> None:
    (folder / "evidence").mkdir(exist_ok=True)
    pd.DataFrame({column: [1] for column in columns}).to_parquet(folder / "evidence" / f"{name}.parquet")
    (folder / "predictions.parquet").write_bytes(b"predictions")
    entry = {"key": "k", "predictions": predictions_hash(folder)}
    index = {"parts": {name: entry, "atlas": {"absent": "No images."}, "unknown": {"key": "k"}}}
    (folder / "evidence" / "evidence.json").write_text(json.dumps(index))


def test_a_study_without_evidence_has_none_and_says_how_to_get_it(tmp_path: Path) -> None:
    evidence = read_evidence(tmp_path)
    assert not evidence.parts
    assert "cxr report --manifest" in evidence.why_absent("pixel_probes")


def test_parts_are_read_and_the_absent_ones_have_their_reason(tmp_path: Path) -> None:
    write(tmp_path, "left_out", FILES["left_out"])
    evidence = read_evidence(tmp_path)
    assert list(evidence.parts) == ["left_out"]
    assert evidence.why_absent("atlas") == "No images."


def test_a_part_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, "left_out", FILES["left_out"][1:])
    with pytest.raises(StudyError, match=r"left_out.parquet: expected the columns image_id"):
        read_evidence(tmp_path)


@pytest.mark.parametrize("file", ["left_out.parquet", "evidence.json"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, file: str) -> None:
    write(tmp_path, "left_out", FILES["left_out"])
    (tmp_path / "evidence" / file).write_bytes(b"damaged")
    with pytest.raises(StudyError, match=rf"(?s){file}.*Remove the folder evidence"):
        read_evidence(tmp_path)


def test_what_was_computed_for_other_predictions_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path, "left_out", FILES["left_out"])
    (tmp_path / "predictions.parquet").write_bytes(b"others")
    evidence = read_evidence(tmp_path)
    assert not evidence.parts
    assert "other predictions" in evidence.why_absent("left_out")


def test_the_features_of_every_image_are_not_held_for_a_report(tmp_path: Path) -> None:
    write(tmp_path, "features", FILES["features"])
    assert not read_evidence(tmp_path).parts
