"""Small studies for tests: 32-pixel images whose grey level gives the class away, and random 'ImageNet' weights."""

from functools import cache
from pathlib import Path

import keras
import numpy as np

from cxr_platform.config import ModelConfig, Profile, load_profile
from cxr_platform.labels import CLASSES
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.models.mobilenet import build_backbone
from cxr_platform.training.data import StudyData
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.inputs import Index
from cxr_platform.training.plan import StudyPlan
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


def random_imagenet(profile: Profile) -> BackboneWeights:
    """Random weights of the backbone, drawn once per process; not to be changed."""
    return dict(_random_weights(profile.model))


@cache
def _random_weights(model: ModelConfig) -> BackboneWeights:
    keras.utils.set_random_seed(3)
    backbone = build_backbone(model)
    return {layer.name: layer.get_weights() for layer in backbone.layers if layer.weights}


def same_batch(index: Index, labels: np.ndarray, weights: np.ndarray, rate: float = 0.001, count: int = 1) -> Steps:
    """`count` steps on one batch."""
    *index, labels, weights = (np.stack([array] * count) for array in (*index, labels, weights))
    return Steps(tuple(index), labels, weights, np.full(count, rate, "float32"))


def tiny_study(folder: Path, strategies: tuple[str, ...], profile: Profile | None = None) -> StudyRun:
    profile = profile or tiny_profile()
    plan = StudyPlan("tiny", "grouped", strategies, profile, manifest_facts())
    pretrained = any(name != "scratch" for name in strategies)
    imagenet = random_imagenet(profile) if pretrained else None
    return StudyRun(plan, StudyFolder(folder), tiny_data(folds=profile.folds), imagenet)
