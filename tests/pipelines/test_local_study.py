"""Local copies of places in object stores, and opening a study on its manifest."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from cxr_platform.domain.study import read_study
from cxr_platform.errors import ConfigError, ManifestError, PredictionsError, StorageError
from cxr_platform.ray_internals import JOB_CONFIG
from cxr_platform.storage import lock
from cxr_platform.storage.paths import parse_path
from pipelines.local_study import check_survives_job, local_copies, open_manifest_of, open_study
from pipelines.options import MANIFESTS, StudyRequest, location
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.stored import rewritten, write_manifest
from tests.evidence.builders import RecordedSteps
from tests.study_records import manifest_facts, study_record, write_record


@dataclass(frozen=True)
class Places:
    """A request with the fields that verbs have."""

    study: Path = Path()
    manifest: Path | None = None
    registry: Path = Path()
    imagenet_weights: Path | None = None


def test_local_folders_are_used_as_they_are(tmp_path: Path) -> None:
    with local_copies(Places(study=tmp_path, manifest=None), "study", "manifest") as local:
        assert local.study is tmp_path
        assert local.manifest is None


def test_a_relative_path_in_a_submitted_job_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_survives_job(Path("runs"))
    monkeypatch.setenv(JOB_CONFIG, json.dumps({"runtime_env": {"working_dir": "gcs://checkout.zip"}}))
    check_survives_job(tmp_path, parse_path("memory://out"))
    with pytest.raises(ConfigError, match=r"outlives the job.*Received: runs.*--storage"):
        check_survives_job(tmp_path, Path("runs"))
    with pytest.raises(ConfigError, match="runs/t"), local_copies(Places(study=Path("runs/t")), "study"):
        pass


def test_the_manifest_of_a_study_is_found_in_the_same_storage(tmp_path: Path) -> None:
    study, manifest = tmp_path / "runs" / "t", tmp_path / "manifests" / "images"
    write_record(study / "study.json", study_record(manifest=manifest_facts(path="images")))
    with local_copies(Places(study=study, manifest=None), "study", "manifest") as local:
        assert local.manifest is None
    manifest.mkdir(parents=True)
    (manifest / "manifest.json").write_text("{}")
    with local_copies(Places(study=study, manifest=None), "study", "manifest") as local:
        assert local.manifest == manifest
    with local_copies(Places(study=study, manifest=tmp_path), "study", "manifest") as local:
        assert local.manifest == tmp_path


def test_a_study_in_an_object_store_is_copied_with_its_manifest_but_without_files_of_running_trials() -> None:
    storage = location("memory://places/out")
    record = study_record(manifest=manifest_facts(path="images"))
    (storage / "runs/t/study.json").write_bytes(record.to_json())
    (storage / "runs/t/champion/scratch.run/attempt/position.npz").write_text("large")
    (storage / "runs/t/trials/scratch/fold-0.run/state.json").write_text("changes every few seconds")
    (storage / "runs/t/.lock").write_text("{}")
    (storage / "manifests/images/manifest.json").write_text("{}")
    with local_copies(Places(study=storage / "runs/t", manifest=None), "study", "manifest") as local:
        assert [path.name for path in local.study.rglob("*")] == ["study.json"]
        assert (local.manifest / "manifest.json").read_text() == "{}"
        (local.study / "report").mkdir()
        (local.study / "report/index.html").write_text("new")
    assert (storage / "runs/t/report/index.html").read_text() == "new"
    assert (storage / "runs/t/champion/scratch.run/attempt/position.npz").exists()


def test_a_registry_in_an_object_store_is_locked_while_it_is_changed() -> None:
    registry = location("memory://places/registry")
    with local_copies(Places(registry=registry), "registry") as local:
        assert (registry / ".lock").exists()
        local.registry.mkdir(exist_ok=True)
        (local.registry / "registry.json").write_text("{}")
    assert not (registry / ".lock").exists()
    assert (parse_path("memory://places/registry") / "registry.json").read_text() == "{}"


def test_weights_in_an_object_store_are_a_local_file_until_the_block_ends() -> None:
    weights = location("memory://places/weights.h5")
    weights.write_bytes(b"weights")
    with local_copies(Places(imagenet_weights=weights)) as local:
        assert local.imagenet_weights.read_bytes() == b"weights"
    assert not local.imagenet_weights.exists()


def test_nothing_is_uploaded_to_a_registry_whose_lock_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.05)
    registry = location("memory://places/lost")
    lost, copies = (
        pytest.raises(StorageError, match="until the end"),
        local_copies(Places(registry=registry), "registry"),
    )
    with lost, copies as local:
        local.registry.mkdir(exist_ok=True)
        (local.registry / "registry.json").write_text("{}")
        monkeypatch.setattr(lock, "ABANDONED_SECONDS", 0.0)
    assert not (registry / "registry.json").exists()


def test_a_registry_that_is_only_read_is_not_locked() -> None:
    registry = location("memory://places/read")
    (registry / "registry.json").write_text("{}")
    with (
        local_copies(Places(registry=registry), "registry") as _,
        local_copies(Places(registry=registry), "registry", read_only=True) as local,
    ):
        assert (local.registry / "registry.json").read_text() == "{}"


FRAME = drawn_frame({"scratch": 0.9, "off-the-shelf": 0.5}, folds=3, scale=0.02)
IMAGES = FRAME.drop_duplicates("image_id")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose manifest was called `manifest`, in a working directory without manifests."""
    monkeypatch.chdir(tmp_path)
    return write_study(tmp_path / "runs" / "test", FRAME)


def test_a_study_is_opened_on_the_manifest_of_its_name(study: Path) -> None:
    stored = write_manifest(MANIFESTS / "manifest", IMAGES)
    progress = RecordedSteps()
    opened = open_study(StudyRequest(study, imagenet_weights=Path("weights.h5")), progress)
    assert opened.manifest.folder == stored.folder
    assert opened.winner == "scratch"
    assert opened.folder.root == study
    assert opened.named_weights == Path("weights.h5")
    assert opened.progress is progress


def test_a_named_manifest_takes_precedence(study: Path, tmp_path: Path) -> None:
    write_manifest(MANIFESTS / "manifest", IMAGES)
    elsewhere = write_manifest(tmp_path / "elsewhere", IMAGES)
    assert open_manifest_of(read_study(study), tmp_path / "elsewhere").folder == elsewhere.folder


def test_the_error_of_a_missing_manifest_names_the_option(study: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifests/manifest\. Received: no such folder.*Use --manifest"):
        open_study(StudyRequest(study), print)


def test_the_error_of_a_missing_named_manifest_does_not_name_the_option(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        open_study(StudyRequest(study, tmp_path / "nowhere"), print)
    assert "--manifest" not in str(caught.value)


def test_a_manifest_of_other_images_is_refused(study: Path) -> None:
    write_manifest(MANIFESTS / "manifest", IMAGES)
    rewritten(study, manifest_content_hash="of-another-day")
    with pytest.raises(PredictionsError, match=r"of-another-day.*Received: b3f0c4de"):
        open_study(StudyRequest(study), print)
