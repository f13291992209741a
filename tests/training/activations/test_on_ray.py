import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from cxr_platform.cluster import NODE_GROUPS, connect
from cxr_platform.errors import StudyError
from cxr_platform.models.frozen import view_transforms
from cxr_platform.progress import NoProgress
from cxr_platform.storage.node_cache import LIMIT
from cxr_platform.storage.paths import parse_path
from cxr_platform.training import engine_local
from cxr_platform.training.activations import files, on_ray, plan
from cxr_platform.training.activations.files import CutFiles
from cxr_platform.training.activations.on_ray import compute_activations
from cxr_platform.training.activations.rates import RateProbe
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.plan import Share
from cxr_platform.training.study import ACTIVATIONS, StudyRun
from tests.recorded_progress import RecordedProgress
from tests.training.builders import live_imagenet, tiny_profile, tiny_study

pytestmark = pytest.mark.ray

CUTS = ("features", "views", "block_15")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    study = tiny_study(tmp_path_factory.mktemp("study"), ("off-the-shelf", "robust"))
    return replace(study, imagenet=live_imagenet(study.plan.profile))


@pytest.fixture
def chunks_of_seven(monkeypatch: pytest.MonkeyPatch) -> None:
    def sevens(count: int) -> Iterator[slice]:
        return (slice(start, min(start + 7, count)) for start in range(0, count, 7))

    monkeypatch.setattr(plan, "chunks", sevens)


@pytest.fixture
def one_processor_left() -> Iterator[None]:
    """As when another study, or a server, has most of the cluster."""
    connect()

    @ray.remote
    class Other:
        def ready(self) -> None:
            pass

    other = Other.options(num_cpus=ray.cluster_resources()["CPU"] - 1).remote()
    ray.get(other.ready.remote())
    yield
    ray.kill(other)


@pytest.mark.usefixtures("chunks_of_seven", "one_processor_left")
def test_workers_without_a_place_are_not_waited_for(study: StudyRun) -> None:
    progress = RecordedProgress()
    result = compute_activations(study, CUTS, Share(1.0, 0.0), progress)
    here = engine_local.compute_activations(study, CUTS, NoProgress())
    for cut in CUTS:
        parts = ray.get(result[cut])
        assert [part.shape[1] for part in parts] == ([7] * 8 if cut != "views" else [7] * 8 + [6])
        np.testing.assert_allclose(np.concatenate(parts, 1), np.concatenate(here[cut], 1), rtol=0.02, atol=0.02)
    assert progress.steps[-1] == (ACTIVATIONS, 56 + 62, 56 + 62)


@pytest.mark.usefixtures("chunks_of_seven")
def test_a_message_says_that_no_worker_has_started(study: StudyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    connect()
    monkeypatch.setattr(on_ray, "WAITING_SECONDS", 0.0)
    progress = RecordedProgress()
    compute_activations(study, ("features",), Share(1.0, 0.0), progress)
    assert any("other work may fill the cluster" in message for message in progress.messages)


def test_files_are_written_by_the_workers_and_only_those_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect()
    halves = tiny_study(tmp_path, ("off-the-shelf",), tiny_profile(**{"resources.activations": "files"}))
    monkeypatch.setattr(files, "chunks", lambda count, _: [slice(0, 40), slice(40, count)])
    progress = RecordedProgress()
    written = compute_activations(halves, CUTS[::2], Share(1.0, 0.0), progress)["block_15"]
    assert isinstance(written, CutFiles)
    assert progress.steps[-1] == (ACTIVATIONS, 56, 56)
    changed = [file.file.stat().st_mtime_ns for file in written.files]
    written.files[1].file.unlink()
    compute_activations(halves, CUTS[::2], Share(1.0, 0.0), progress)
    again = [file.file.stat().st_mtime_ns for file in written.files]
    assert again[0] == changed[0]
    assert again[1] > changed[1]


def test_without_a_cut_nothing_is_computed(study: StudyRun) -> None:
    assert compute_activations(study, (), Share(1.0, 0.0), NoProgress()) == {}


def test_the_room_for_a_trial_is_that_on_the_largest_node_that_there_may_be(
    study: StudyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect()
    monkeypatch.setenv(LIMIT, "8")
    stored = replace(study, folder=StudyFolder(parse_path(f"memory://{tmp_path.name}")))
    here = max(node["Resources"]["CPU"] for node in ray.nodes())
    assert on_ray._room(stored, Share(here, 0.0)).cache == 8 * 2**30
    monkeypatch.setenv(NODE_GROUPS, json.dumps([{"resources": {"CPU": 4 * here}, "count": 1}]))
    assert on_ray._room(stored, Share(here, 0.0)).cache == 2 * 2**30


def test_rates_are_measured_by_a_worker(study: StudyRun) -> None:
    connect()
    assert study.imagenet is not None
    profile, images = study.plan.profile, np.asarray(study.data.images)
    transforms = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)[-1]
    probe = RateProbe("features", profile.model, study.imagenet, images, transforms, study.activations_folder)
    rates = on_ray._measured_rates(profile, Share(1.0, 0.0), probe)
    assert min(rates.images_per_second, rates.bytes_per_second) > 0


def test_a_place_for_files_that_cannot_be_written_is_an_error_of_that_place(study: StudyRun, tmp_path: Path) -> None:
    connect()
    (tmp_path / "occupied").write_text("")
    assert study.imagenet is not None
    profile, images = study.plan.profile, np.asarray(study.data.images)
    transforms = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)[-1]
    probe = RateProbe("features", profile.model, study.imagenet, images, transforms, tmp_path / "occupied")
    with pytest.raises(StudyError, match="occupied"):
        on_ray._measured_rates(profile, Share(1.0, 0.0), probe)
