import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from cxr_platform.errors import NotPossible, StorageError
from cxr_platform.evaluation.evidence_files import read_evidence
from cxr_platform.evidence.collect import Part, collect


class Counting:
    """A part that says how often it was computed."""

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
    return pa.table({name: [0] for name in columns})


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    (tmp_path / "predictions.parquet").write_bytes(b"first")
    manifest = SimpleNamespace(content_hash="abc")
    return SimpleNamespace(folder=SimpleNamespace(root=tmp_path), manifest=manifest, winner="scratch")


def test_what_was_computed_is_read_back_and_kept(workspace: Any, tmp_path: Path) -> None:
    part = Counting()
    for _ in range(2):
        collect(workspace, [Part(("lung_share",), part)])
    assert part.times == 1
    assert list(read_evidence(tmp_path).parts) == ["lung_share"]


@pytest.mark.parametrize("change", ["predictions", "manifest", "winner", "version", "file", "end"])
def test_it_is_computed_again_when_something_it_came_from_changes(workspace: Any, tmp_path: Path, change: str) -> None:
    part = Counting()
    collect(workspace, [Part(("lung_share",), part)])
    if change == "predictions":
        (tmp_path / "predictions.parquet").write_bytes(b"second")
    elif change == "manifest":
        workspace.manifest.content_hash = "def"
    elif change == "winner":
        workspace.winner = "off-the-shelf"
    elif change == "file":
        (tmp_path / "evidence" / "lung_share.parquet").unlink()
    elif change == "end":
        (tmp_path / "evidence" / "lung_share.parquet").write_bytes(b"PAR1 and no more")
    collect(workspace, [Part(("lung_share",), part, version=2 if change == "version" else 1)])
    assert part.times == 2


def test_what_is_not_possible_is_noted_with_its_reason_and_tried_again(workspace: Any, tmp_path: Path) -> None:
    collect(workspace, [Part(("lung_share",), Counting())])
    impossible = Counting(NotPossible("Expected images of two sources."))
    part = Part(("lung_share",), impossible, version=2)
    collect(workspace, [part])
    collect(workspace, [part])
    evidence = read_evidence(tmp_path)
    assert impossible.times == 2
    assert not evidence.parts
    assert evidence.why_absent("lung_share") == "Expected images of two sources."


def test_a_part_that_raises_otherwise_leaves_the_others_stored(workspace: Any, tmp_path: Path) -> None:
    parts = [Part(("lung_share",), Counting()), Part(("heatmaps",), Counting(ValueError("a defect")))]
    with pytest.raises(ValueError, match="a defect"):
        collect(workspace, parts)
    assert list(read_evidence(tmp_path).parts) == ["lung_share"]


def test_a_damaged_index_means_that_everything_is_computed_again(workspace: Any, tmp_path: Path) -> None:
    part = Counting()
    collect(workspace, [Part(("lung_share",), part)])
    (tmp_path / "evidence" / "evidence.json").write_text("{")
    collect(workspace, [Part(("lung_share",), part)])
    assert part.times == 2
    assert json.loads((tmp_path / "evidence" / "evidence.json").read_text())["parts"]["lung_share"]["key"]


def test_predictions_that_change_meanwhile_do_not_own_what_was_computed(workspace: Any, tmp_path: Path) -> None:
    def replacing(_: Any) -> Mapping[str, pa.Table]:
        (tmp_path / "predictions.parquet").write_bytes(b"second")
        return {"lung_share": lung_table()}

    collect(workspace, [Part(("lung_share",), replacing)])
    evidence = read_evidence(tmp_path)
    assert not evidence.parts
    assert "other predictions" in evidence.why_absent("lung_share")


def test_a_full_disk_leaves_no_half_written_file(workspace: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        collect(workspace, [Part(("lung_share",), Counting())])
    assert list((tmp_path / "evidence").iterdir()) == []
    assert not read_evidence(tmp_path).parts


def test_a_place_that_cannot_be_written_is_named(workspace: Any, tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("a file in its place")
    with pytest.raises(StorageError, match="evidence"):
        collect(workspace, [Part(("lung_share",), Counting())])
