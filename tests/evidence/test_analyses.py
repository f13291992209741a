import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxr_platform.domain.predictions import CONTRAST_SCHEMA
from cxr_platform.errors import NotPossible, StorageError
from cxr_platform.evaluation.evidence_files import FILES, read_evidence
from cxr_platform.evidence.analyses import ANALYSES, Analysis, update_evidence


class Counting:
    """An analysis that counts how often it is computed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.times = 0
        self.error = error

    def __call__(self, _: Any) -> Mapping[str, pa.Table]:
        self.times += 1
        if self.error:
            raise self.error
        return {"lung_share": lung_table()}


def lung_table() -> pa.Table:
    columns = ("image_id", "label", "predicted", "strategy", "fold", "share", "field_share")
    return pa.table({name: ["0"] if name == "image_id" else [0] for name in columns})


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    (tmp_path / "predictions.parquet").write_bytes(b"first")
    images = pa.table({"image_id": ["1", "0"], "source_path": ["made/1.png", "made/0.png"]})
    manifest = SimpleNamespace(content_hash="abc", table=images.select)
    study = SimpleNamespace(manifest=SimpleNamespace(origins={}))
    return SimpleNamespace(folder=SimpleNamespace(root=tmp_path), study=study, manifest=manifest, winner="scratch")


def test_a_computed_table_is_stored_and_kept(opened: Any, tmp_path: Path) -> None:
    counting = Counting()
    for _ in range(2):
        update_evidence(opened, [Analysis(("lung_share",), counting)])
    assert counting.times == 1
    (part,) = read_evidence(tmp_path).parts.values()
    assert part["source_path"].tolist() == ["made/0.png"]


def test_contrast_predictions_are_beside_those_of_the_study(opened: Any, tmp_path: Path) -> None:
    table = CONTRAST_SCHEMA.empty_table()
    update_evidence(opened, [Analysis(("contrast",), lambda _: {"contrast": table})])
    assert pq.read_schema(tmp_path / "contrast-predictions.parquet").names == CONTRAST_SCHEMA.names
    assert list(read_evidence(tmp_path).parts) == ["contrast"]


@pytest.mark.parametrize("change", ["predictions", "manifest", "origins", "winner", "version", "file", "end"])
def test_a_table_is_computed_again_if_one_of_its_inputs_changes(opened: Any, tmp_path: Path, change: str) -> None:
    counting = Counting()
    update_evidence(opened, [Analysis(("lung_share",), counting)])
    if change == "predictions":
        (tmp_path / "predictions.parquet").write_bytes(b"second")
    elif change == "manifest":
        opened.manifest.content_hash = "def"
    elif change == "origins":
        opened.study.manifest.origins["made"] = "a hospital"
    elif change == "winner":
        opened.winner = "off-the-shelf"
    elif change == "file":
        (tmp_path / "evidence" / "lung_share.parquet").unlink()
    elif change == "end":
        (tmp_path / "evidence" / "lung_share.parquet").write_bytes(b"PAR1 and no more")
    update_evidence(opened, [Analysis(("lung_share",), counting, version=2 if change == "version" else 1)])
    assert counting.times == 2


def test_an_analysis_that_is_not_possible_is_recorded_and_tried_again(opened: Any, tmp_path: Path) -> None:
    update_evidence(opened, [Analysis(("lung_share",), Counting())])
    impossible = Counting(NotPossible("Expected images of two sources."))
    analysis = Analysis(("lung_share",), impossible, version=2)
    update_evidence(opened, [analysis])
    update_evidence(opened, [analysis])
    evidence = read_evidence(tmp_path)
    assert impossible.times == 2
    assert not evidence.parts
    assert evidence.why_absent("lung_share") == "Expected images of two sources."


def test_an_unexpected_error_keeps_the_tables_that_are_stored(opened: Any, tmp_path: Path) -> None:
    analyses = [Analysis(("lung_share",), Counting()), Analysis(("heatmaps",), Counting(ValueError("a defect")))]
    with pytest.raises(ValueError, match="a defect"):
        update_evidence(opened, analyses)
    assert list(read_evidence(tmp_path).parts) == ["lung_share"]


def test_with_a_damaged_index_everything_is_computed_again(opened: Any, tmp_path: Path) -> None:
    counting = Counting()
    update_evidence(opened, [Analysis(("lung_share",), counting)])
    (tmp_path / "evidence" / "evidence.json").write_text("{")
    update_evidence(opened, [Analysis(("lung_share",), counting)])
    assert counting.times == 2
    assert json.loads((tmp_path / "evidence" / "evidence.json").read_text())["parts"]["lung_share"]["key"]


def test_a_table_computed_while_the_predictions_change_is_not_used(opened: Any, tmp_path: Path) -> None:
    def replacing(_: Any) -> Mapping[str, pa.Table]:
        (tmp_path / "predictions.parquet").write_bytes(b"second")
        return {"lung_share": lung_table()}

    update_evidence(opened, [Analysis(("lung_share",), replacing)])
    evidence = read_evidence(tmp_path)
    assert not evidence.parts
    assert "other predictions" in evidence.why_absent("lung_share")


def test_a_full_disk_leaves_no_partial_file(opened: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        update_evidence(opened, [Analysis(("lung_share",), Counting())])
    assert list((tmp_path / "evidence").iterdir()) == []
    assert not read_evidence(tmp_path).parts


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("a file in its place")
    with pytest.raises(StorageError, match="evidence"):
        update_evidence(opened, [Analysis(("lung_share",), Counting())])


def test_every_file_of_the_evidence_is_written_by_one_analysis() -> None:
    tables = [name for analysis in ANALYSES for name in analysis.tables]
    assert len(tables) == len(set(tables))
    assert set(tables) == set(FILES)
