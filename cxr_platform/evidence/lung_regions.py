"""Where the lungs of images are: the mask of the segmenter, or an outline where it finds no plausible lungs."""

from dataclasses import dataclass

import numpy as np

from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.intake.lung_field import lung_fields
from cxr_platform.models.frozen import chunks
from cxr_platform.models.lung_segmenter import lung_masks

TITLE = "Lung masks"


@dataclass(frozen=True, eq=False)
class LungRegions:
    """`masks` (n, S, S) bool of the lungs, with what lies behind the heart; `found` (n,) is False for an outline."""

    masks: Array
    found: Array


def lung_regions(images: Array, widths: Array, heights: Array) -> LungRegions:
    """Return the lungs of letterboxed images (n, S, S) uint8 whose files are `widths` × `heights` pixels large."""
    masks = lung_masks(images)
    found = masks.any(axis=(1, 2))
    masks[~found] = lung_fields(widths[~found], heights[~found], images.shape[1])
    return LungRegions(masks, found)


def outlines(opened: OpenStudy) -> Array:
    """Return the outline of each image of the study, bool (N, S, S), which has the same shape for all patients."""
    widths, heights = sides(opened, opened.data.image_ids)
    return lung_fields(widths, heights, opened.data.images.shape[1])


def study_lungs(opened: OpenStudy) -> LungRegions:
    """Return the lungs of the study's images, in their order."""
    images, (widths, heights) = opened.data.images, sides(opened, opened.data.image_ids)
    parts = []
    for rows in chunks(len(images)):
        parts.append(lung_regions(images[rows], widths[rows], heights[rows]))
        opened.progress.step(TITLE, min(rows.stop, len(images)), len(images))
    return LungRegions(np.concatenate([p.masks for p in parts]), np.concatenate([p.found for p in parts]))


def sides(opened: OpenStudy, image_ids: Array) -> tuple[Array, Array]:
    """Return widths and heights (n,) of the original images, in the order of `image_ids`."""
    facts = opened.manifest.table(["image_id", "width", "height"]).to_pandas().set_index("image_id")
    mine = facts.loc[list(image_ids)]
    return mine["width"].to_numpy(), mine["height"].to_numpy()
