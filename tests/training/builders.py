"""Small studies for tests: 32-pixel images whose grey level gives the class away, and random 'ImageNet' weights."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import numpy as np

from cxr_platform.config import ModelConfig, Profile, load_profile
from cxr_platform.domain.study import TrialKey
from cxr_platform.labels import CLASSES, class_index
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.models.mobilenet import build_backbone
from cxr_platform.training.data import StudyData, ViewImages
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.inputs import Index
from cxr_platform.training.plan import Share, StudyPlan
from cxr_platform.training.robust_head import CONTRAST
from cxr_platform.training.running_trial import TrialHeartbeat
from cxr_platform.training.step import Steps
from cxr_platform.training.study import StudyRun
from tests.study_records import manifest_facts

SIDE = 32


def tiny_profile(**overrides: object) -> Profile:
    settings = {
        "folds": 2,
        "model.input_size": SIDE,
        "model.dense_units": 32,
        "augmentation.views": 1,
        "training.off_the_shelf": {"epochs": 2, "learning_rate": 0.01},
        "training.fine_tuning": {"epochs": 2, "learning_rate": 0.001},
        "training.scratch": {"epochs": 2, "learning_rate": 0.001},
        "training.batch_size": 8,
        "resources.cpu": 1.0,
        "resources.retries": 1,
    }
    return load_profile("quick", {**settings, **overrides})


def tiny_data(count: int = 56, folds: int = 2) -> StudyData:
    rng = np.random.default_rng(1)
    labels = np.arange(count) % len(CLASSES)
    images = np.clip(labels[:, None, None] * 34 + rng.normal(20, 6, (count, SIDE, SIDE)), 0, 255).astype("uint8")
    names = np.array([f"image-{i:03d}" for i in range(count)])
    groups = np.array([f"group-{i // 7:03d}" for i in range(count)])
    paths = np.array([f"made/{name}.png" for name in names])
    return StudyData(images, labels, np.arange(count) // 7 % folds, names, groups, np.array(["made"] * count), paths)


def with_views(data: StudyData, views: int = 2, contrast: int = 6) -> StudyData:
    """The data with one or two views of its images, of two origins, and of `contrast` images as bright as Normal is."""
    normal = data.images[data.labels == class_index("Normal")][:contrast]
    images = np.concatenate([data.images, normal])
    labels = np.append(data.labels, [CONTRAST] * len(normal))
    folds = np.append(data.folds, np.arange(len(normal)) % len(np.unique(data.folds)))
    origins = np.array(["here", "there"])[np.arange(len(labels)) // 3 % 2]
    shown = np.stack([images, 255 - images][:views], axis=1)
    return replace(data, views=ViewImages(shown, labels, folds, origins))


def random_imagenet(profile: Profile) -> BackboneWeights:
    """Random weights of the backbone, drawn once per process; not to be changed."""
    return dict(_random_weights(profile.model))


@cache
def _random_weights(model: ModelConfig) -> BackboneWeights:
    keras.utils.set_random_seed(3)
    backbone = build_backbone(model)
    return {layer.name: layer.get_weights() for layer in backbone.layers if layer.weights}


def live_imagenet(profile: Profile) -> BackboneWeights:
    """Random weights as in `random_imagenet`, scaled so that features do not vanish from layer to layer."""
    rng = np.random.default_rng(5)

    def scaled(array: np.ndarray) -> np.ndarray:
        if array.ndim < 4:
            return array
        inputs = np.prod(array.shape[:2]) * (1 if array.shape[3] == 1 else array.shape[2])
        return rng.normal(0, np.sqrt(2 / inputs), array.shape).astype("float32")

    return {name: [scaled(array) for array in arrays] for name, arrays in random_imagenet(profile).items()}


def same_batch(index: Index, labels: np.ndarray, weights: np.ndarray, rate: float = 0.001, count: int = 1) -> Steps:
    """`count` steps on one batch."""
    *index, labels, weights = (np.stack([array] * count) for array in (*index, labels, weights))
    return Steps(tuple(index), labels, weights, np.full(count, rate, "float32"))


def begin(study: StudyRun, strategy: str) -> None:
    """Leave what the first trial of `strategy` does when it begins."""
    key = TrialKey(strategy, 0)
    with TrialHeartbeat(study.folder.running_folder(key), key, 1, Share(1.0, 0.0), 0.0, {}) as trial:
        trial.begin()


def tiny_study(folder: Path, strategies: tuple[str, ...], profile: Profile | None = None) -> StudyRun:
    profile = profile or tiny_profile()
    plan = StudyPlan("tiny", "grouped", strategies, profile, manifest_facts())
    pretrained = any(name != "scratch" for name in strategies)
    imagenet = random_imagenet(profile) if pretrained else None
    data = tiny_data(folds=profile.folds)
    return StudyRun(plan, StudyFolder(folder), with_views(data, len(plan.views)) if plan.views else data, imagenet)
