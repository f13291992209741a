"""Planted images with networks that were trained on them fold by fold, stored as a study stores them."""

from dataclasses import replace
from functools import cache

import numpy as np

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.labels import CLASSES
from cxr_platform.models.frozen import FrozenBackbone, view_transforms
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.inputs import FrozenInputs
from cxr_platform.training.trial import TrialData, Workbench, run_trial
from tests.evidence.builders import FOLDS, Kind, planted_study, published_weights
from tests.kept_folder import kept_folder
from tests.study_records import study_record, trial_record

STRATEGY, SIZE = "off-the-shelf", 96


@cache
def trained_open_study(kind: Kind) -> OpenStudy:
    """120 planted images of 96 pixels in three folds; a head on ImageNet's frozen features for each.

    Predictions stand in another order than the images, as they may. Skips where ImageNet's weights are not at hand.
    """
    made = planted_study(kind, published_weights(), size=SIZE)
    training = replace(made.profile.training, off_the_shelf=replace(made.profile.training.off_the_shelf, epochs=12))
    profile = replace(made.profile, model=replace(made.profile.model, dense_units=256), training=training)
    folder = StudyFolder(kept_folder())
    order = np.random.default_rng(1).permutation(len(made.data.labels))
    study = study_record(profile=profile)
    trained = OpenStudy(folder, study, _train(made, profile, folder, order), STRATEGY, made.manifest, made.progress)
    trained.__dict__.update(data=made.data, imagenet=made.imagenet)
    return trained


def _train(made, profile, folder: StudyFolder, order: np.ndarray) -> Predictions:
    data = made.data
    clean = view_transforms(len(data.labels), SIZE, profile.augmentation, 0)[0]
    features = FrozenBackbone(("features",), profile.model, made.imagenet).activations(data.images, clean)["features"]
    bench = Workbench(profile.model, profile.training, made.imagenet)
    inputs = FrozenInputs([features[None]])
    probabilities = np.zeros((len(data.labels), len(CLASSES)))
    for fold in range(FOLDS):
        trial = TrialData(inputs, data.labels, data.rows_outside(fold), data.rows_of_fold(fold))
        result = run_trial(bench, strategy_by_name(STRATEGY), trial, seed=fold)
        folder.write_trial(trial_record(STRATEGY, fold), data, result)
        probabilities[data.rows_of_fold(fold)] = result.probabilities
    columns = (data.image_ids, data.group_ids, data.sources, data.labels, data.folds)
    return Predictions(*(column[order] for column in columns), FOLDS, {STRATEGY: probabilities[order]})
