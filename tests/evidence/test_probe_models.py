from dataclasses import replace

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.evidence.probe_models import (
    class_probabilities,
    fitted,
    image_features,
    lungs_only,
    on_features,
    on_metadata,
    out_of_fold_answers,
    out_of_fold_probabilities,
    whole_image_features,
    without_lungs,
)
from cxr_platform.models.frozen import FrozenBackbone, view_transforms
from tests.evidence.builders import RecordedSteps, inside_lung_field, made_open_study, planted_facts, planted_study
from tests.training.builders import random_imagenet, tiny_profile

LABELS = np.array([0, 6] * 20)
FOLDS = np.arange(40) // 2 % 4


@pytest.fixture(scope="module")
def progress() -> RecordedSteps:
    return RecordedSteps()


@pytest.fixture(scope="module")
def opened(progress: RecordedSteps) -> OpenStudy:
    """300 images of 32 pixels, which is more than one chunk."""
    rng = np.random.default_rng(5)
    known = planted_study("lungs", None, size=32)
    rows = np.arange(300) % 120
    data = replace(known.data, images=rng.integers(0, 255, (300, 32, 32), "uint8"), labels=known.data.labels[rows])
    made = made_open_study(data, planted_facts(known.data, 0), tiny_profile(), random_imagenet(tiny_profile()))
    whole = replace(made, progress=progress)
    whole.__dict__.update(made.__dict__ | {"progress": progress})
    return whole


def test_features_are_those_of_the_backbone(opened: OpenStudy) -> None:
    images, profile = opened.data.images[:40], opened.profile
    clean = view_transforms(40, 32, profile.augmentation, 0)[0]
    expected = FrozenBackbone(("features",), profile.model, opened.imagenet).activations(images, clean)["features"]
    features = image_features(images, opened)
    assert features.shape == (40, 1280)
    assert features.dtype == np.float32
    assert np.abs(features - expected).max() < 1e-3


def test_features_of_whole_images_are_computed_once_and_report_progress(
    opened: OpenStudy, progress: RecordedSteps
) -> None:
    progress.steps.clear()
    first = whole_image_features(opened)
    assert [(done, total) for _, done, total in progress.steps] == [(256, 300), (300, 300)]
    assert whole_image_features(opened) is first
    assert len(progress.steps) == 2


def test_masked_pixels_are_black_and_others_unchanged() -> None:
    images = np.random.default_rng(0).integers(1, 255, (3, 64, 64), "uint8")
    fields = np.repeat(inside_lung_field(64)[None], 3, axis=0)
    without, only = without_lungs(images, fields), lungs_only(images, fields)
    assert without.dtype == only.dtype == np.uint8
    assert (without[fields] == 0).all()
    assert (without[~fields] == images[~fields]).all()
    assert (without + only == images).all()


def test_an_image_is_predicted_by_a_classifier_fitted_without_it() -> None:
    names = np.arange(40.0)[:, None]  # by its own number a tree knows each image that it has seen, and only those
    chance = np.random.default_rng(0).permutation(LABELS)
    seen = fitted(DecisionTreeClassifier, names, chance).predict(names)
    unseen = out_of_fold_probabilities(DecisionTreeClassifier, names, chance, FOLDS).argmax(axis=1)
    assert (seen == chance).all()
    assert (unseen == chance).mean() < 0.8


def test_a_class_in_one_fold_only_has_probability_0_there() -> None:
    labels = np.where(FOLDS == 0, 3, LABELS)
    values = np.random.default_rng(0).normal(size=(40, 4))
    probabilities = out_of_fold_probabilities(on_features, values, labels, FOLDS)
    assert (probabilities[FOLDS == 0, 3] == 0).all()
    assert (probabilities[FOLDS != 0, 3] > 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("make", [on_features, lambda: on_metadata(1)])
def test_both_classifiers_learn_separable_values(make: object) -> None:
    values = np.stack([LABELS + 0.0, np.zeros(40)], axis=1)
    answers = out_of_fold_answers(make, values, np.where(LABELS == 0, "east", "west"), FOLDS)  # type: ignore[arg-type]
    assert (answers == np.where(LABELS == 0, "east", "west")).all()


def test_a_single_answer_is_always_given() -> None:
    model = fitted(on_features, np.zeros((4, 2)), np.full(4, 5))
    assert class_probabilities(model, np.ones((3, 2)))[:, 5].tolist() == [1, 1, 1]
