"""The networks of a study's trials, filled again from their files, against what the trials themselves predicted."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StudyError
from cxr_platform.evidence.networks import fold_networks, predict_images
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.training import engine_local
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import StudyRun, run_study
from tests.evidence.study import tiny_workspace
from tests.training.builders import tiny_study

STRATEGIES = ("fine-tuning-1", "scratch")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    study = tiny_study(tmp_path_factory.mktemp("study"), STRATEGIES)
    run_study(study, engine_local.run, StudyProgress())
    return study


@pytest.fixture
def workspace(study: StudyRun) -> Workspace:
    return tiny_workspace(study)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_they_predict_the_held_out_images_as_the_trial_did(workspace: Workspace, strategy: str) -> None:
    folds = []
    for fold, network in fold_networks(workspace, strategy):
        trial = workspace.folder.trial_folder(TrialKey(strategy, fold))
        table = pq.read_table(trial / "predictions.parquet").to_pandas()
        stored = table[list(PROBABILITY_COLUMNS)].to_numpy()
        again = predict_images(network, workspace.data.images[workspace.data.rows_of_fold(fold)], workspace)
        assert np.abs(again - stored).max() < 3e-4  # trials keep frozen activations in half precision
        folds.append(again)
    assert len(folds) == 2
    assert np.abs(folds[0] - folds[1]).max() > 8e-4


def test_a_trial_without_weights_is_named(study: StudyRun, workspace: Workspace, tmp_path: Path) -> None:
    weights = study.folder.trial_folder(TrialKey("scratch", 1)) / "model.weights.h5"
    aside = weights.rename(tmp_path / "aside")
    try:
        assert [fold for fold, _ in fold_networks(workspace, "scratch", [0])] == [0]  # the others are not looked at
        networks = fold_networks(workspace, "scratch")
        next(networks)
        with pytest.raises(StudyError, match=r"scratch/fold-1"):
            next(networks)
    finally:
        aside.rename(weights)
