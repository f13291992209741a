import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from cxr_platform.evaluation.evidence_files import FILES, read_evidence
from cxr_platform.evidence import analyses
from cxr_platform.evidence.analyses import Analysis
from cxr_platform.storage.files import upload_folder
from cxr_platform.storage.paths import parse_path
from pipelines import report
from pipelines.options import MANIFESTS
from pipelines.report import compose, main
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.origin_study import write_origin_study
from tests.evaluation.stored import rewritten, write_manifest

FRAME = drawn_frame({"scratch": 0.9}, folds=3)
NO_HEATMAPS = pa.table({name: pa.array([], pa.string()) for name in FILES["heatmaps"]})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "runs" / "test", FRAME)


def test_the_five_lines_and_the_page_are_printed(study, capsys):
    assert main(["--study", str(study)]) == 0

    *lines, page = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "What was compared",
        "Best strategy",
        "Margin",
        "Credibility",
        "Next steps",
    ]
    assert Path(page) == study / "report" / "index.html"
    assert Path(page).is_file()


def test_an_incomplete_study_is_an_error_and_exit_code_2(study, capsys):
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


class Evidence:
    """Records how it is called in place of the function that computes evidence."""

    def __init__(self) -> None:
        self.manifests: list[Path] = []
        self.others: list[str | None] = []
        self.origins: list[str | None] = []

    def __call__(self, _request, inputs, manifest, *_):
        self.manifests.append(manifest.folder)
        self.others.append(inputs.other[0].name if inputs.other else None)
        self.origins.append(inputs.origins[0].name if inputs.origins else None)
        return inputs


@pytest.fixture(scope="module")
def composed() -> Callable[..., Any]:
    """`compose`, which draws the figures of the first report for all."""
    kept: list[Any] = []

    def once(*arguments: Any) -> Any:
        if not kept:
            kept.append(compose(*arguments))
        return kept[0]

    return once


@pytest.fixture
def evidence(study: Path, tmp_path: Path, composed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """The working directory holds the study's manifest under data/manifests."""
    monkeypatch.setattr(report, "compose", composed)
    monkeypatch.chdir(tmp_path)
    write_manifest(MANIFESTS / "manifest", FRAME.drop_duplicates("image_id"))
    evidence = Evidence()
    monkeypatch.setattr(report, "_with_evidence", evidence)
    return evidence


def test_evidence_is_computed_from_the_manifest_of_the_study(study, evidence, capsys):
    assert main(["--study", str(study)]) == 0
    assert [place.name for place in evidence.manifests] == ["manifest"]
    assert "without images" not in capsys.readouterr().err


def test_a_manifest_that_was_built_again_is_not_used(study, evidence, capsys):
    rewritten(study, manifest_content_hash="of-another-day")

    assert main(["--study", str(study)]) == 0

    assert evidence.manifests == []
    assert "without images: data/manifests/manifest was built again since the study" in capsys.readouterr().err
    assert (study / "report" / "index.html").is_file()


def test_a_named_manifest_that_was_built_again_is_an_error(study, evidence, capsys):
    rewritten(study, manifest_content_hash="of-another-day")

    assert main(["--study", str(study), "--manifest", str(MANIFESTS / "manifest")]) == 2
    assert "Received: b3f0c4de" in capsys.readouterr().err


def test_without_a_manifest_the_message_names_the_option(study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--study", str(study)]) == 0
    error = capsys.readouterr().err
    assert "without images. Expected a manifest in data/manifests/manifest" in error
    assert "Use --manifest" in error


def test_the_message_of_a_broken_manifest_says_what_is_wrong(study, evidence, capsys):
    (MANIFESTS / "manifest" / "manifest.json").write_text("{")
    assert main(["--study", str(study)]) == 0
    assert "without images. Expected JSON in" in capsys.readouterr().err


def beside(study: Path, **changes: object) -> Path:
    other = write_study(study.with_name("test-paper"), FRAME, protocol="paper", name="test-paper")
    return rewritten(other, **changes)


def test_the_study_beside_it_under_the_other_protocol_is_compared(study, evidence):
    beside(study)
    assert main(["--study", str(study)]) == 0
    assert main(["--study", str(study.with_name("test-paper"))]) == 0
    assert evidence.others == ["test-paper", "test"]


def test_the_study_of_the_other_protocol_beside_it_in_a_store_is_compared(study, evidence):
    other, runs = beside(study), parse_path("memory://report/runs")
    for folder in (study, other):
        upload_folder(folder, runs / folder.name, "study.json")
    assert main(["--study", "memory://report/runs/test-paper"]) == 0
    assert evidence.others == ["test"]


@pytest.mark.parametrize("changes", [{"manifest_content_hash": "other"}, {"protocol": "grouped"}])
def test_a_study_beside_it_of_other_images_or_the_same_protocol_is_not_compared(study, evidence, changes):
    beside(study, **changes)
    assert main(["--study", str(study)]) == 0
    assert evidence.others == [None]


def origins_beside(study: Path) -> Path:
    """A study that leaves the sources out in turn, of the same images."""
    frames = [FRAME.assign(fold=fold) for fold in range(2)]
    return write_origin_study(study.with_name("test-origins"), pd.concat(frames), left_out=("cohen", "kermany"))


def test_the_study_beside_it_that_leaves_origins_out_is_shown(study, evidence):
    origins = origins_beside(study)
    assert main(["--study", str(study)]) == 0
    assert main(["--study", str(study), "--origins", str(origins)]) == 0
    assert evidence.origins == ["test-origins", "test-origins"]


def test_studies_beside_the_working_directory_are_found(study, evidence, monkeypatch):
    origins_beside(study)
    monkeypatch.chdir(study)
    manifest = str(study.parent.parent / MANIFESTS / "manifest")
    assert main(["--study", ".", "--manifest", manifest]) == 0
    assert evidence.origins == ["test-origins"]


def test_a_study_in_a_store_that_leaves_origins_out_is_shown(study, evidence):
    origins, runs = origins_beside(study), parse_path("memory://origins/runs")
    for folder in (study, origins):
        upload_folder(folder, runs / folder.name, "study.json")
    assert main(["--study", "memory://origins/runs/test"]) == 0
    assert evidence.origins == ["test-origins"]


def test_a_study_that_leaves_no_origin_out_is_left_out_beside_it_and_an_error_if_named(study, evidence, capsys):
    rewritten(origins_beside(study), protocol="paper")
    assert main(["--study", str(study)]) == 0
    assert evidence.origins == [None]
    assert "test-origins is left out: Expected" in capsys.readouterr().err
    assert main(["--study", str(study), "--origins", str(study.with_name("test-origins"))]) == 2


def test_a_broken_study_beside_it_is_left_out_with_the_reason(study, evidence, capsys):
    FRAME[FRAME["fold"] != 1].to_parquet(beside(study) / "predictions.parquet")
    assert main(["--study", str(study)]) == 0
    assert evidence.others == [None]
    assert "test-paper is left out:" in capsys.readouterr().err


def test_the_error_of_a_broken_study_does_not_name_the_one_beside_it(study, evidence, capsys):
    beside(study)
    FRAME[FRAME["fold"] != 1].to_parquet(study / "predictions.parquet")
    assert main(["--study", str(study)]) == 2
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["part", "index"])
def test_damaged_evidence_is_computed_again_if_there_are_images(study, tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    write_manifest(MANIFESTS / "manifest", FRAME.drop_duplicates("image_id"))
    monkeypatch.setattr(analyses, "ANALYSES", (Analysis(("heatmaps",), lambda _: {"heatmaps": NO_HEATMAPS}),))
    assert main(["--study", str(study)]) == 0
    stored = study / "evidence" / {"part": "heatmaps.parquet", "index": "evidence.json"}[damage]
    stored.write_bytes(stored.read_bytes()[:20])

    assert main(["--study", str(study)]) == 0
    assert list(read_evidence(study).parts) == ["heatmaps"]
