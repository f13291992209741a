"""Shortcut probes: how much can be told without looking at the lungs, under the study's own folds.

After Maguolo & Nanni 2020 (arXiv:2004.12823), who blacked out the lungs and still told the collections apart, and
DeGrave et al. 2021 (Nature Machine Intelligence 3:610), who found what networks look at instead.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from cxr_platform.evidence.classifiers import (
    Make,
    on_features,
    on_metadata,
    out_of_fold_answers,
    out_of_fold_probabilities,
    probability_columns,
)
from cxr_platform.evidence.features import (
    image_features,
    lungs_only,
    study_lung_fields,
    whole_image_features,
    without_lungs,
)
from cxr_platform.evidence.workspace import Workspace

METADATA, WHOLE, WITHOUT, ONLY = "metadata", "whole-image", "without-lungs", "lungs-only"
NUMBERS = ("width", "height", "aspect", "bit_depth", "mean", "std", "padding_fraction")
TITLE = "Shortcut probes"

Fit = tuple[str, Make, np.ndarray]
"""Name of the probe, its recipe, and what it sees of each image (N, F)."""


def metadata_probes(workspace: Workspace) -> Mapping[str, pa.Table]:
    """Classes and sources told from facts of the file alone: metadata_probe and metadata_source_probe."""
    make = partial(on_metadata, workspace.profile.seed)
    fits = [(METADATA, make, metadata_values(workspace))]
    return {
        "metadata_probe": _classes(workspace, fits),
        "metadata_source_probe": _sources(workspace, fits),
    }


def pixel_probes(workspace: Workspace) -> Mapping[str, pa.Table]:
    """Classes told from whole images, from images without their lungs and from lungs alone, all by one recipe; sources
    from the first two: pixel_probes and pixel_source_probes.

    Raises `WeightsError` where ImageNet weights are not to be had.
    """
    fits = [(WHOLE, on_features, whole_image_features(workspace))]
    fields = study_lung_fields(workspace)
    for name, masked in ((WITHOUT, without_lungs), (ONLY, lungs_only)):
        images = masked(workspace.data.images, fields)
        fits.append((name, on_features, image_features(images, workspace, f"Frozen features, {name}")))
    return {
        "pixel_probes": _classes(workspace, fits),
        "pixel_source_probes": _sources(workspace, fits[:2]),
    }


def metadata_values(workspace: Workspace) -> np.ndarray:
    """Facts of the study's files (N, F) float: sizes in pixels, grey 0 to 1, colour modes as columns of 0 and 1."""
    import pandas as pd

    columns = ["image_id", "width", "height", "bit_depth", "color_mode", "mean", "std", "padding_fraction"]
    facts = workspace.manifest.table(columns).to_pandas().set_index("image_id").loc[workspace.data.image_ids]
    facts["aspect"] = facts["width"] / facts["height"]
    modes = pd.get_dummies(facts["color_mode"])
    return np.asarray(pd.concat([facts[list(NUMBERS)], modes], axis=1).to_numpy("float64"))


def _classes(workspace: Workspace, fits: Sequence[Fit]) -> pa.Table:
    data = workspace.data
    _step(workspace, "class", 0, len(fits))
    parts = []
    for done, (name, make, values) in enumerate(fits, 1):
        probabilities = out_of_fold_probabilities(make, values, data.labels, data.folds)
        parts.append(_rows(workspace, name, probability_columns(probabilities)))
        _step(workspace, "class", done, len(fits))
    return pa.concat_tables(parts)


def _sources(workspace: Workspace, fits: Sequence[Fit]) -> pa.Table:
    """Empty where all images are of one source: there is nothing to tell."""
    data = workspace.data
    parts = []
    for done, (name, make, values) in enumerate(fits, 1):
        found = out_of_fold_answers(make, values, data.sources, data.folds)
        columns = {"source": pa.array(data.sources), "predicted": pa.array(found)}
        parts.append(_rows(workspace, name, columns))
        _step(workspace, "source", done, len(fits))
    table = pa.concat_tables(parts)
    return table if len(np.unique(data.sources)) > 1 else table.slice(0, 0)


def _rows(workspace: Workspace, name: str, columns: Mapping[str, pa.Array]) -> pa.Table:
    data = workspace.data
    keys = {"probe": pa.array([name] * len(data.labels)), "image_id": pa.array(data.image_ids)}
    return pa.table({**keys, "fold": pa.array(data.folds.astype("int32")), **columns})


def _step(workspace: Workspace, of: str, done: int, total: int) -> None:
    workspace.progress(f"{TITLE}, {of}", done, total)
