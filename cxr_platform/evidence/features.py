"""Images seen by a network that was never trained on them: ImageNet's frozen features of whole and of masked images."""

from functools import lru_cache

import numpy as np

from cxr_platform.evidence.workspace import Workspace
from cxr_platform.explain.lung_field import lung_fields
from cxr_platform.models.frozen import FrozenBackbone, chunks, view_transforms

CUT = "features"
TITLE = "Frozen features"
BLACK = 0


def image_features(images: np.ndarray, workspace: Workspace, title: str = TITLE) -> np.ndarray:
    """Means over the image of ImageNet's last feature maps: uint8 (N, S, S) → float32 (N, F), F = 1280 at full width.

    Raises `WeightsError` where ImageNet weights are not to be had.
    """
    profile, backbone = workspace.profile, _backbone(workspace)
    clean = view_transforms(len(images), images.shape[1], profile.augmentation, profile.seed)[0]
    parts = []
    for rows in chunks(len(images)):
        parts.append(backbone.activations(images[rows], clean[rows])[CUT].astype("float32"))
        workspace.progress(title, min(rows.stop, len(images)), len(images))
    return np.concatenate(parts)


@lru_cache(maxsize=1)  # built and compiled once for all variants of the images
def _backbone(workspace: Workspace) -> FrozenBackbone:
    return FrozenBackbone((CUT,), workspace.profile.model, workspace.imagenet)


@lru_cache(maxsize=1)  # the whole image is asked for by several parts of one report
def whole_image_features(workspace: Workspace) -> np.ndarray:
    """`image_features` of the study's images as they are."""
    return image_features(workspace.data.images, workspace, f"{TITLE}, whole image")


def without_lungs(images: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """The images (N, S, S) uint8 with the lung fields (N, S, S) bool set to black."""
    return np.where(fields, np.uint8(BLACK), images)


def lungs_only(images: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """The images (N, S, S) uint8 with everything but the lung fields set to black."""
    return np.where(fields, images, np.uint8(BLACK))


def study_lung_fields(workspace: Workspace) -> np.ndarray:
    """The lung fields of the study's images, bool (N, S, S), by where the image lies in its letterbox."""
    facts = workspace.manifest.table(["image_id", "width", "height"]).to_pandas().set_index("image_id")
    sides = facts.loc[workspace.data.image_ids]
    return lung_fields(sides["width"].to_numpy(), sides["height"].to_numpy(), workspace.data.images.shape[1])
