from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.storage.node_cache import FOLDER, NodeCache
from cxr_platform.training import study_need as module
from cxr_platform.training.image_files import ImageFile
from cxr_platform.training.study import StudyRun
from cxr_platform.training.study_need import (
    GIB,
    OBJECT_STORE_SHARE,
    PROCESS_GIB,
    room_on_disk,
    study_need,
    trial_bytes,
)
from pipelines.benchmarks.large_study_sections import LARGEST_PROCESS_MIB
from tests.training.builders import tiny_profile, tiny_study

PAPER = load_profile("paper")


def test_a_study_of_all_images_of_nih_needs_the_activations_of_all_cuts() -> None:
    need = study_need(PAPER, STRATEGY_NAMES, 112_120, 1)
    assert need.activations * GIB / 112_120 == pytest.approx(1.35e6, rel=0.01)
    assert need.manifest == 112_120 * 200**2 / GIB
    assert need.volume == need.activations + need.manifest + need.trials


def test_the_cache_holds_the_images_and_what_the_trials_of_a_node_read_at_a_time() -> None:
    one, four = (study_need(PAPER, STRATEGY_NAMES, 112_120, trials) for trials in (1, 4))
    images = 112_120 * 200**2 / GIB
    assert four.cache - images == pytest.approx(4 * (one.cache - images))
    assert four.memory == 4 * one.memory


def test_scratch_alone_needs_no_activations() -> None:
    need = study_need(PAPER, ["scratch"], 1000, 1)
    assert (need.activations, need.cache) == (0.0, 1000 * 200**2 / GIB)
    assert need.trials > 0


def test_the_memory_of_a_process_is_the_limit_of_the_benchmark() -> None:
    assert PROCESS_GIB * 1024 == LARGEST_PROCESS_MIB
    assert study_need(PAPER, ["scratch"], 1000, 2).memory * (1 - OBJECT_STORE_SHARE) == pytest.approx(2 * PROCESS_GIB)


def with_image_file(study: StudyRun) -> StudyRun:
    images = ImageFile("images.npy", (1000, 32, 32), lambda target: target.write_bytes(b""), NodeCache())  # type: ignore[arg-type,return-value]
    return replace(study, data=replace(study.data, images=images))  # type: ignore[arg-type]


def test_the_cache_of_a_node_is_shared_by_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf",), tiny_profile(**{"resources.cache_gib": 8}))
    assert room_on_disk(study, trials=4)[1] is None
    monkeypatch.setattr(module, "is_remote", lambda _: True)
    assert room_on_disk(study, trials=4) == (None, 2 * GIB)
    assert room_on_disk(with_image_file(study), trials=4) == (None, 2 * GIB - 1000 * 32 * 32 / 4)


def test_the_disk_keeps_room_for_the_trials_and_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _: 2**40)
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    study = tiny_study(tmp_path, ("off-the-shelf",))
    trial = trial_bytes(study.plan.profile.model)
    assert trial > 2_000_000 * 4  # parameters of the network
    assert room_on_disk(study, 1) == (2**40 - 2 * trial, None)
    assert room_on_disk(replace(study, of_champion=True), 1) == (2**40 - trial, None)
    large = with_image_file(study)
    assert room_on_disk(large, 1) == (2**40 - 2 * trial - 1000 * 32 * 32, None)
    large.data.images.cache.made("images.npy", large.data.images.make, 0)  # type: ignore[union-attr]
    assert room_on_disk(large, 1) == (2**40 - 2 * trial, None)
    monkeypatch.setattr(module, "disk_of", lambda folder: folder)
    assert room_on_disk(with_image_file(study), 1) == (2**40 - 2 * trial, None)
    monkeypatch.setattr(module, "free_bytes", lambda _: 100)
    assert room_on_disk(study, 1) == (0.0, None)
