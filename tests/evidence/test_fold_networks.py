"""Networks loaded from the files of trials predict what the trials predicted."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StudyError
from cxr_platform.evidence.fold_networks import fold_networks, predict_images
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.training import engine_local
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import StudyRun, run_study
from tests.evidence.study import tiny_open_study
from tests.training.builders import tiny_study

STRATEGIES = ("fine-tuning-1", "scratch")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    study = tiny_study(tmp_path_factory.mktemp("study"), STRATEGIES)
    run_study(study, engine_local.run, StudyProgress())
    return study


@pytest.fixture
def opened(study: StudyRun) -> OpenStudy:
    return tiny_open_study(study)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_loaded_networks_predict_the_test_images_as_their_trials(opened: OpenStudy, strategy: str) -> None:
    folds = []
    for fold, network in fold_networks(opened, strategy):
        trial = opened.folder.trial_folder(TrialKey(strategy, fold))
        table = pq.read_table(trial / "predictions.parquet").to_pandas()
        stored = table[list(PROBABILITY_COLUMNS)].to_numpy()
        again = predict_images(network, opened.data.images[opened.data.rows_of_fold(fold)], opened)
        assert np.abs(again - stored).max() < 3e-4  # trials keep frozen activations in half precision
        folds.append(again)
    assert len(folds) == 2
    assert np.abs(folds[0] - folds[1]).max() > 8e-4


def test_a_trial_without_weights_is_an_error_that_names_it(study: StudyRun, opened: OpenStudy, tmp_path: Path) -> None:
    weights = study.folder.trial_folder(TrialKey("scratch", 1)) / "model.weights.h5"
    aside = weights.rename(tmp_path / "aside")
    try:
        assert [fold for fold, _ in fold_networks(opened, "scratch", [0])] == [0]  # the others are not looked at
        networks = fold_networks(opened, "scratch")
        next(networks)
        with pytest.raises(StudyError, match=r"scratch/fold-1"):
            next(networks)
    finally:
        aside.rename(weights)
