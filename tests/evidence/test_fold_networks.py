"""Networks loaded from the files of trials predict what the trials predicted."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StudyError
from cxr_platform.evidence.fold_networks import fold_networks, images_for
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.intake.lung_views import stacked_views
from cxr_platform.training import engine_local
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import StudyRun, run_study
from cxr_platform.training.trial import predict_images
from tests.evidence.study import tiny_open_study
from tests.training.builders import live_imagenet, tiny_profile, tiny_study

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
        again = predict_images(network, opened.data.images[opened.data.rows_of_fold(fold)])
        assert np.abs(again - stored).max() < 3e-4  # trials keep frozen activations in half precision
        folds.append(again)
    assert len(folds) == 2
    assert np.abs(folds[0] - folds[1]).max() > 8e-4


def test_networks_of_robust_predict_views_as_their_trials(tmp_path: Path) -> None:
    profile = tiny_profile(robust={"views": ["whole", "lungs"], "against": "normal", "margin": 1.0})
    study = replace(tiny_study(tmp_path, ("robust",), profile), imagenet=live_imagenet(profile))
    run_study(study, engine_local.run, StudyProgress())
    assert study.data.views is not None
    for fold, network in fold_networks(tiny_open_study(study), "robust"):
        table = pq.read_table(tmp_path / "trials" / "robust" / f"fold-{fold}" / "predictions.parquet").to_pandas()
        stored = table[list(PROBABILITY_COLUMNS)].to_numpy()
        again = predict_images(network, study.data.views.images[study.data.rows_of_fold(fold)])
        np.testing.assert_allclose(again, stored, atol=0.02)  # trials keep frozen activations in half precision
        assert stored.max(axis=1).mean() > 0.7


def test_networks_of_robust_get_views_and_all_others_the_resized_image() -> None:
    profile = tiny_profile(robust={"views": ["whole", "lungs"]})
    opened = SimpleNamespace(profile=profile)
    pixels = np.random.default_rng(1).integers(0, 255, (3, 64, 64), "uint8")
    sides = np.array([400, 300, 200]), np.array([300, 300, 300])
    whole = images_for(opened, "scratch", pixels, *sides)  # type: ignore[arg-type]
    views = images_for(opened, "robust", pixels, *sides)  # type: ignore[arg-type]
    np.testing.assert_array_equal(whole, resize_images(pixels, 32))
    np.testing.assert_array_equal(views, stacked_views(("whole", "lungs"), pixels, *sides, 32))
    np.testing.assert_array_equal(views[:, 0], whole)


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
