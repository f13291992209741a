"""Shortcut probes: out-of-fold predictions of class and source from metadata and from images without lungs.

Maguolo & Nanni 2020 (arXiv:2004.12823) blacked out the lungs and could still classify the collections; DeGrave et al.
2021 (Nature Machine Intelligence 3:610) showed what networks use instead.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from cxr_platform.domain.predictions import probability_columns
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.lung_regions import outlines, study_lungs
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.evidence.probe_models import (
    Make,
    image_features,
    lungs_only,
    on_features,
    on_metadata,
    out_of_fold_answers,
    out_of_fold_probabilities,
    whole_image_features,
    without_lungs,
)

METADATA, WHOLE, WITHOUT, ONLY = "metadata", "whole-image", "without-lungs", "lungs-only"
OUTLINE = "without-outline"
NUMBERS = ("width", "height", "aspect", "bit_depth", "mean", "std", "padding_fraction")
TITLE = "Shortcut probes"

Fit = tuple[str, Make, Array]
"""Name of the probe, its classifier, and its inputs (N, F)."""


def metadata_probes(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return tables `metadata_probe` (class) and `metadata_source_probe` (source), from facts of the files alone."""
    make = partial(on_metadata, opened.profile.seed)
    fits = [(METADATA, make, metadata_values(opened))]
    return {
        "metadata_probe": _classes(opened, fits),
        "metadata_source_probe": _sources(opened, fits),
    }


def pixel_probes(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return tables `pixel_probes` (class) and `pixel_source_probes` (source).

    Inputs are frozen features of whole images, of images without lungs and, for the class only, of lungs alone, and of
    images without an outline that has the same shape for all patients: the black area of a mask still shows the shape
    of the lungs. Large studies are sampled (`OpenStudy.probed`). Raise `WeightsError` without ImageNet weights.
    """
    opened = opened.probed
    fits = [(WHOLE, on_features, whole_image_features(opened))]
    lungs, images = study_lungs(opened), np.asarray(opened.data.images)
    masked = {
        WITHOUT: without_lungs(images, lungs.masks),
        ONLY: lungs_only(images, lungs.masks),
        OUTLINE: without_lungs(images, outlines(opened)),
    }
    for name, seen in masked.items():
        fits.append((name, on_features, image_features(seen, opened, f"Frozen features, {name}")))
    classes = _classes(opened, fits)
    return {
        "pixel_probes": classes.append_column("lungs_found", pa.array(np.tile(lungs.found, len(fits)))),
        "pixel_source_probes": _sources(opened, fits[:2]),
    }


def metadata_values(opened: OpenStudy) -> Array:
    """Return facts of the study's files (N, F): sizes in pixels, grey 0 to 1, colour modes as columns of 0 and 1."""
    columns = ["image_id", "width", "height", "bit_depth", "color_mode", "mean", "std", "padding_fraction"]
    facts = opened.manifest.table(columns).to_pandas().set_index("image_id").loc[opened.data.image_ids]
    facts["aspect"] = facts["width"] / facts["height"]
    modes = pd.get_dummies(facts["color_mode"])
    return np.asarray(pd.concat([facts[list(NUMBERS)], modes], axis=1).to_numpy("float64"))


def _classes(opened: OpenStudy, fits: Sequence[Fit]) -> pa.Table:
    data, parts = opened.data, []
    opened.progress.step(f"{TITLE}, class", 0, len(fits))
    for done, (name, make, values) in enumerate(fits, 1):
        probabilities = out_of_fold_probabilities(make, values, data.labels, data.folds)
        parts.append(_rows(opened, name, probability_columns(probabilities)))
        opened.progress.step(f"{TITLE}, class", done, len(fits))
    return pa.concat_tables(parts)


def _sources(opened: OpenStudy, fits: Sequence[Fit]) -> pa.Table:
    """Return the predicted origins as sources, an empty table if all images have one."""
    data = opened.data
    parts = []
    for done, (name, make, values) in enumerate(fits, 1):
        predicted = out_of_fold_answers(make, values, opened.origins, data.folds)
        columns = {"source": pa.array(opened.origins), "predicted": pa.array(predicted)}
        parts.append(_rows(opened, name, columns))
        opened.progress.step(f"{TITLE}, source", done, len(fits))
    table = pa.concat_tables(parts)
    return table if len(np.unique(opened.origins)) > 1 else table.slice(0, 0)


def _rows(opened: OpenStudy, name: str, columns: Mapping[str, pa.Array]) -> pa.Table:
    data = opened.data
    keys = {"probe": pa.array([name] * len(data.labels)), "image_id": pa.array(data.image_ids)}
    return pa.table({**keys, "fold": pa.array(data.folds.astype("int32")), **columns})
