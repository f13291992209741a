"""The same verb with everything in an object store: images, manifest, study and report."""

import json
import shutil
from pathlib import Path

import pytest
import ray

from cxr_platform.storage.mirror import local_copy
from cxr_platform.storage.paths import parse_path
from pipelines import cross_validate, phantoms, study
from tests.pipelines.small_study import PROFILE
from tests.storage.object_store import folder, names


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with images, the same images in the store, and a profile."""
    ray.shutdown()  # the workers of an instance that another test has left do not know the store
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(PROFILE)
    assert phantoms.main(["--out", "images", "--per-class", "8", "--seed", "3", "--size", "224"]) == 0
    with local_copy(folder("images")) as copy:
        shutil.copytree("images", copy)
    return tmp_path


def run(*more: str) -> int:
    return cross_validate.main(["--profile", "tiny.toml", "--strategies", "scratch", "--engine", "local", *more])


@pytest.mark.ray
def test_images_in_a_store_become_a_study_and_a_report_in_a_store(
    store: dict[str, str], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path for path in work.rglob("*") if path.is_file()}
    assert run("--data", "s3://images/images", "--storage", "s3://images/out") == 0
    assert {path for path in work.rglob("*") if path.is_file()} == before
    written = names(folder("out"))
    root = "runs/images-tiny"
    assert {f"{root}/study.json", f"{root}/predictions.parquet", f"{root}/report/index.html"} <= set(written)
    assert {"manifests/images-tiny/manifest.json", "manifests/images-tiny/images/part-00000.parquet"} <= set(written)
    assert {f"{root}/trials/scratch/fold-{fold}/trial.json" for fold in (0, 1)} <= set(written)
    assert not [name for name in written if ".run/" in name or name.endswith(".lock") or "/tune/" in name]

    capsys.readouterr()
    assert run("--data", "s3://images/images", "--storage", "s3://images/out", "--no-report") == 0
    output = capsys.readouterr().out
    assert "is current" in output
    assert "0 trials to run, 2 kept from before" in output

    (image, *_) = sorted((folder("images") / "phantoms").glob("**/*.png"))
    image.write_bytes(image.read_bytes() + b"0")  # the study continues with its own images
    parse_path("s3://images/images", cache_listings=True).fs.invalidate_cache()  # type: ignore[attr-defined]  # as a new process has it
    assert run("--data", "s3://images/images", "--storage", "s3://images/out", "--no-report") == 0
    output = capsys.readouterr().out
    assert "with which the study was started" in output
    assert "0 trials to run, 2 kept from before" in output
    before = [(name, (folder("out") / name).stat().st_mtime) for name in written]
    for other in (["--seed", "7"], ["--folds", "3"], ["--external", "phantoms"]):
        assert run("--data", "s3://images/images", "--storage", "s3://images/out", *other) == 2
        assert "another NAME" in capsys.readouterr().err
    assert [(name, (folder("out") / name).stat().st_mtime) for name in written] == before

    assert study.main(["status", "images-tiny", "--storage", "s3://images/out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["states"]["finished"] == 2
