"""Images that no fold has seen, by the models of every strategy × fold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cxr_platform.errors import NotPossible
from cxr_platform.evidence.classifiers import probability_columns
from cxr_platform.evidence.networks import fold_networks, predict_images
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.intake.letterbox import resize_images

KEYS = ("image_id", "group_id", "source", "label")
TITLE = "Unseen images"


@dataclass(frozen=True, eq=False)
class UnseenImages:
    """`facts` has the columns `KEYS`, one row an image (label null where none is known); `pixels` uint8 (N, s, s)."""

    facts: pa.Table
    pixels: np.ndarray


def external(workspace: Workspace) -> Mapping[str, pa.Table]:
    """external: each image of role external in the manifest by each model. Raises `NotPossible` where there is none,
    `WeightsError` where strategies need ImageNet weights that are not to be had."""
    table = workspace.manifest.table([*KEYS, "role"])
    outside = np.array(table["role"].to_pylist()) == "external"
    if not outside.any():
        raise NotPossible(
            "No source is marked external, so that there are no images that no fold has seen.",
            advice="Mark one with cxr manifest --external SOURCE, or score a folder with cxr evaluate.",
        )
    images = UnseenImages(table.select(KEYS).filter(pa.array(outside)), workspace.manifest.pixels()[outside])
    return {"external": score(images, workspace)}


def score(images: UnseenImages, workspace: Workspace) -> pa.Table:
    """One row an image, strategy and fold: `KEYS`, strategy, fold, probabilities; images resized as those of the study."""
    pixels = resize_images(images.pixels, workspace.profile.model.input_size)
    parts = []
    for strategy, fold, probabilities in _scores(pixels, workspace):
        columns = {name: images.facts[name] for name in KEYS}
        columns |= {"strategy": pa.array([strategy] * len(pixels))}
        columns |= {"fold": pa.array(np.full(len(pixels), fold, "int32"))}
        parts.append(pa.table({**columns, **probability_columns(probabilities)}))
    return pa.concat_tables(parts)


def _scores(pixels: np.ndarray, workspace: Workspace) -> Iterator[tuple[str, int, np.ndarray]]:
    strategies, folds = workspace.study.strategies, workspace.study.folds
    for number, strategy in enumerate(strategies):
        for fold, network in fold_networks(workspace, strategy):
            yield strategy, fold, predict_images(network, pixels, workspace)
            workspace.progress(TITLE, number * folds + fold + 1, len(strategies) * folds)
