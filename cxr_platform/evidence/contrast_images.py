"""Out-of-fold predictions for contrast images, by the networks that saw no image of their group."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from cxr_platform.domain.predictions import CONTRAST_SCHEMA, probability_columns
from cxr_platform.errors import NotPossible
from cxr_platform.evidence.fold_networks import fold_networks, images_for, letterboxed_images
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.training.data import fold_column
from cxr_platform.training.trial import predict_images

KEYS = ("image_id", "source_path", "group_id", "source", "label", "finding")
TITLE = "Contrast images"


def contrast_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `contrast`, in `CONTRAST_SCHEMA`: each contrast image by the network of its fold, per strategy.

    Raise `NotPossible` if the manifest has none, `WeightsError` if a strategy needs ImageNet weights that cannot be
    found.
    """
    column = fold_column(opened.study.protocol)
    table = opened.manifest.table([*KEYS, "width", "height", "role", column])
    is_contrast = np.array(table["role"].to_pylist()) == "contrast"
    if not is_contrast.any():
        raise NotPossible(
            "Expected contrast images in the manifest: images of a source with Covid19, of none of the seven classes.",
            received="none",
            advice='Add a collection that has some, or set contrast = "all" under [intake.selection] of the profile.',
        )
    facts = table.filter(pa.array(is_contrast))
    pixels, folds = letterboxed_images(opened, is_contrast, "contrast images"), facts[column].to_numpy()
    sides = facts["width"].to_numpy(), facts["height"].to_numpy()
    parts, strategies = [], opened.study.strategies
    for done, strategy in enumerate(strategies, 1):
        shown = images_for(opened, strategy, pixels, *sides)
        for fold, network in fold_networks(opened, strategy, np.unique(folds).tolist()):
            rows = np.flatnonzero(folds == fold)
            columns = dict(zip(KEYS, facts.select(KEYS).take(rows).columns, strict=True))
            columns |= {"strategy": pa.array([strategy] * len(rows)), "fold": pa.array(folds[rows].astype("int32"))}
            columns |= probability_columns(predict_images(network, shown[rows]))
            parts.append(pa.table(columns).select(CONTRAST_SCHEMA.names).cast(CONTRAST_SCHEMA))
        opened.progress.step(TITLE, done, len(strategies))
    return {"contrast": pa.concat_tables(parts)}
