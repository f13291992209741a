"""Features of whole and masked images by the frozen ImageNet backbone, which was never trained on radiographs."""

from functools import lru_cache

import numpy as np

from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.explain.lung_field import lung_fields
from cxr_platform.models.frozen import FrozenBackbone, chunks, view_transforms

CUT = "features"
TITLE = "Frozen features"
BLACK = 0


def image_features(images: Array, opened: OpenStudy, title: str = TITLE) -> Array:
    """Return spatial means of the last feature maps: uint8 (N, S, S) → float32 (N, F), F = 1280 at full width.

    Raise `WeightsError` without ImageNet weights.
    """
    profile, backbone = opened.profile, _backbone(opened)
    clean = view_transforms(len(images), images.shape[1], profile.augmentation, profile.seed)[0]
    parts = []
    for rows in chunks(len(images)):
        parts.append(backbone.activations(images[rows], clean[rows])[CUT].astype("float32"))
        opened.progress.step(title, min(rows.stop, len(images)), len(images))
    return np.concatenate(parts)


@lru_cache(maxsize=1)  # compiled once for whole and masked images
def _backbone(opened: OpenStudy) -> FrozenBackbone:
    return FrozenBackbone((CUT,), opened.profile.model, opened.imagenet)


@lru_cache(maxsize=1)  # used by several analyses
def whole_image_features(opened: OpenStudy) -> Array:
    """Return `image_features` of the study's images without a mask."""
    return image_features(opened.data.images, opened, f"{TITLE}, whole image")


def without_lungs(images: Array, fields: Array) -> Array:
    """Return the images (N, S, S) uint8 with the lung fields (N, S, S) bool set to black."""
    return np.where(fields, np.uint8(BLACK), images)


def lungs_only(images: Array, fields: Array) -> Array:
    """Return the images (N, S, S) uint8 with everything but the lung fields set to black."""
    return np.where(fields, images, np.uint8(BLACK))


def study_lung_fields(opened: OpenStudy) -> Array:
    """Return the lung fields of the study's images, bool (N, S, S), from the position of the image in its letterbox."""
    facts = opened.manifest.table(["image_id", "width", "height"]).to_pandas().set_index("image_id")
    sides = facts.loc[opened.data.image_ids]
    return lung_fields(sides["width"].to_numpy(), sides["height"].to_numpy(), opened.data.images.shape[1])
