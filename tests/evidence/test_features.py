from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.evidence.features import (
    image_features,
    lungs_only,
    study_lung_fields,
    whole_image_features,
    without_lungs,
)
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.explain.lung_field import lung_fields
from cxr_platform.models.frozen import FrozenBackbone, view_transforms
from tests.evidence.builders import inside_lung_field, made_workspace, planted_facts, planted_workspace
from tests.training.builders import random_imagenet, tiny_profile

Steps = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def told() -> Steps:
    return []


@pytest.fixture(scope="module")
def workspace(told: Steps) -> Workspace:
    """300 images of 32 pixels, which is more than one chunk."""
    rng = np.random.default_rng(5)
    known = planted_workspace("lungs", None, size=32)
    rows = np.arange(300) % 120
    data = replace(known.data, images=rng.integers(0, 255, (300, 32, 32), "uint8"), labels=known.data.labels[rows])
    made = made_workspace(data, planted_facts(known.data, 0), tiny_profile(), random_imagenet(tiny_profile()))
    whole = replace(made, progress=lambda *step: told.append(step))
    whole.__dict__.update(made.__dict__ | {"progress": whole.progress})
    return whole


def test_they_are_the_backbones_of_images_as_they_are(workspace: Workspace) -> None:
    images, profile = workspace.data.images[:40], workspace.profile
    clean = view_transforms(40, 32, profile.augmentation, 0)[0]
    expected = FrozenBackbone(("features",), profile.model, workspace.imagenet).activations(images, clean)["features"]
    found = image_features(images, workspace)
    assert found.shape == (40, 1280)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-3


def test_of_whole_images_they_are_computed_once_and_progress_is_told(workspace: Workspace, told: Steps) -> None:
    told.clear()
    first = whole_image_features(workspace)
    assert [(done, total) for _, done, total in told] == [(256, 300), (300, 300)]
    assert whole_image_features(workspace) is first
    assert len(told) == 2


def test_masked_images_are_black_there_and_untouched_elsewhere() -> None:
    images = np.random.default_rng(0).integers(1, 255, (3, 64, 64), "uint8")
    fields = np.repeat(inside_lung_field(64)[None], 3, axis=0)
    without, only = without_lungs(images, fields), lungs_only(images, fields)
    assert without.dtype == only.dtype == np.uint8
    assert (without[fields] == 0).all()
    assert (without[~fields] == images[~fields]).all()
    assert (without + only == images).all()


def test_lung_fields_follow_the_shape_of_each_image_in_the_order_of_the_study() -> None:
    known = planted_workspace("lungs", None)
    facts = planted_facts(known.data, 0)
    heights = (facts["width"].to_numpy() * np.linspace(0.6, 1.4, 120)).astype("int32")
    facts = facts.set_column(facts.column_names.index("height"), "height", [heights])
    shuffled = facts.take(np.random.default_rng(0).permutation(120))
    fields = study_lung_fields(made_workspace(known.data, shuffled, known.profile, None))
    assert (fields == lung_fields(facts["width"].to_numpy(), heights, 64)).all()
    assert (fields[0] != fields[-1]).any()
