import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from cxr_platform.cluster import connect
from cxr_platform.errors import ConfigError, StorageError, TrialsFailed
from cxr_platform.training import engine_local
from cxr_platform.training.engine_ray import RayEngine, trial_resources
from cxr_platform.training.plan import TrialKey
from cxr_platform.training.progress import Progress
from cxr_platform.training.study import Study, run_study
from tests.training.builders import tiny_profile, tiny_study

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    """The Ray instance that other tests may have started already."""
    connect()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return tiny_study(tmp_path_factory.mktemp("study"), ("off-the-shelf", "fine-tuning-1"))


def test_trials_on_ray_give_what_trials_in_this_process_give(study: Study, tmp_path: Path) -> None:
    pooled = pq.read_table(run_study(study, RayEngine(), Progress()))
    local = tiny_study(tmp_path, ("off-the-shelf", "fine-tuning-1"))
    expected = pq.read_table(run_study(local, engine_local.run, Progress()))
    assert pooled["image_id"] == expected["image_id"]
    assert pooled["strategy"] == expected["strategy"]
    difference = np.abs(pooled["p_Covid19"].to_numpy() - expected["p_Covid19"].to_numpy())
    assert difference.max() < 1e-3
    assert not (study.folder.root / "tune").exists()


def test_a_trial_that_fails_is_tried_again_then_reported_and_the_others_finish(tmp_path: Path) -> None:
    """A learning rate that cannot work fails one strategy in its workers; the other is stored."""
    profile = tiny_profile(**{"training.fine_tuning.learning_rate": 1e30})
    study = tiny_study(tmp_path, ("off-the-shelf", "fine-tuning-1"), profile)
    told = io.StringIO()
    with pytest.raises(TrialsFailed, match=r"2 of 4 trials failed.*fine-tuning-1 fold 0: .*lower the learning rate"):
        run_study(study, RayEngine(), Progress(told))
    assert told.getvalue().count("failed and is tried again") == 2
    assert study.folder.is_finished(TrialKey("off-the-shelf", 1))


def test_a_place_that_cannot_be_written_ends_the_study_instead_of_being_tried_again(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf",))
    (tmp_path / "trials").write_text("in the way")
    told = io.StringIO()
    with pytest.raises(StorageError, match="fold-"):
        run_study(study, RayEngine(), Progress(told))
    assert "tried again" not in told.getvalue()


def test_a_card_that_is_not_there_is_refused_instead_of_waited_for() -> None:
    with pytest.raises(ConfigError, match=r"resources\.gpu = 0\.5.*0 cards"):
        trial_resources(tiny_profile(**{"resources.gpu": 0.5}).resources, trials=8)


def test_a_trial_asks_for_no_more_processors_than_there_are() -> None:
    asked = tiny_profile(**{"resources.cpu": 4096.0, "resources.gpu": 0.0}).resources
    assert trial_resources(asked, trials=8) == (ray.cluster_resources()["CPU"], 0.0)
