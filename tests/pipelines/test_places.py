import argparse
import json
from pathlib import Path

import pytest

from cxr_platform.cluster import JOB_CONFIG
from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.storage import lock
from cxr_platform.storage.paths import parse_path
from pipelines.places import a_place, add_storage_argument, at_hand, refuse_copies
from tests.study_records import manifest_facts, study_record, write_record


def named(**places: object) -> argparse.Namespace:
    return argparse.Namespace(**{"imagenet_weights": None, **places})


def test_a_scheme_that_nothing_reads_is_an_error_of_the_argument(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_storage_argument(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--storage", "nonsense://x"])
    assert "gcsfs" in capsys.readouterr().err


def test_folders_are_handed_on_as_they_are(tmp_path: Path) -> None:
    with at_hand(named(study=tmp_path, manifest=None), "study", "manifest") as local:
        assert local.study is tmp_path
        assert local.manifest is None


def test_what_a_job_would_write_into_its_copy_of_the_checkout_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_copies(Path("runs"))
    monkeypatch.setenv(JOB_CONFIG, json.dumps({"runtime_env": {"working_dir": "gcs://checkout.zip"}}))
    refuse_copies(tmp_path, parse_path("memory://out"))
    with pytest.raises(ConfigError, match=r"after the job.*Received: runs.*--storage"):
        refuse_copies(tmp_path, Path("runs"))
    with pytest.raises(ConfigError, match="runs/t"), at_hand(named(study=Path("runs/t")), "study"):
        pass


def test_a_study_in_a_folder_comes_with_the_manifest_of_the_same_storage(tmp_path: Path) -> None:
    study, manifest = tmp_path / "runs" / "t", tmp_path / "manifests" / "images"
    write_record(study / "study.json", study_record(manifest=manifest_facts(path="images")))
    with at_hand(named(study=study, manifest=None), "study", "manifest") as local:
        assert local.manifest is None
    manifest.mkdir(parents=True)
    (manifest / "manifest.json").write_text("{}")
    with at_hand(named(study=study, manifest=None), "study", "manifest") as local:
        assert local.manifest == manifest
    with at_hand(named(study=study, manifest=tmp_path), "study", "manifest") as local:
        assert local.manifest == tmp_path


def test_a_study_in_a_store_comes_with_its_manifest_and_without_what_only_training_needs() -> None:
    storage = a_place("memory://places/out")
    record = study_record(manifest=manifest_facts(path="images"))
    (storage / "runs/t/study.json").write_bytes(record.to_json())
    (storage / "runs/t/champion/scratch.run/attempt/position.npz").write_text("large")
    (storage / "runs/t/trials/scratch/fold-0.run/state.json").write_text("changes every few seconds")
    (storage / "runs/t/.lock").write_text("{}")
    (storage / "manifests/images/manifest.json").write_text("{}")
    with at_hand(named(study=storage / "runs/t", manifest=None), "study", "manifest") as local:
        assert [path.name for path in local.study.rglob("*")] == ["study.json"]
        assert (local.manifest / "manifest.json").read_text() == "{}"
        (local.study / "report").mkdir()
        (local.study / "report/index.html").write_text("new")
    assert (storage / "runs/t/report/index.html").read_text() == "new"
    assert (storage / "runs/t/champion/scratch.run/attempt/position.npz").exists()


def test_a_registry_in_a_store_is_changed_by_one_at_a_time() -> None:
    registry = a_place("memory://places/registry")
    with at_hand(named(registry=registry), "registry") as local:
        assert (registry / ".lock").exists()
        local.registry.mkdir(exist_ok=True)
        (local.registry / "registry.json").write_text("{}")
    assert not (registry / ".lock").exists()
    assert (parse_path("memory://places/registry") / "registry.json").read_text() == "{}"


def test_weights_in_a_store_are_a_file_for_the_length_of_the_block() -> None:
    weights = a_place("memory://places/weights.h5")
    weights.write_bytes(b"weights")
    with at_hand(named(imagenet_weights=weights)) as local:
        assert local.imagenet_weights.read_bytes() == b"weights"
    assert not local.imagenet_weights.exists()


def test_nothing_is_put_back_into_a_registry_that_another_one_took_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.05)
    registry = a_place("memory://places/lost")
    with pytest.raises(StorageError, match="until the end"), at_hand(named(registry=registry), "registry") as local:  # noqa: PT012
        local.registry.mkdir(exist_ok=True)
        (local.registry / "registry.json").write_text("{}")
        monkeypatch.setattr(lock, "ABANDONED_SECONDS", 0.0)
    assert not (registry / "registry.json").exists()


def test_a_registry_that_is_only_read_is_not_held() -> None:
    registry = a_place("memory://places/read")
    (registry / "registry.json").write_text("{}")
    with (
        at_hand(named(registry=registry), "registry") as _,
        at_hand(named(registry=registry), "registry", reading=True) as local,
    ):
        assert (local.registry / "registry.json").read_text() == "{}"
