"""The columns of out-of-fold predictions, of a trial (`trials/…/predictions.parquet`) and of a study."""

from typing import Any

import numpy.typing as npt
import pyarrow as pa

from cxr_platform.labels import CLASSES

KEY_COLUMNS = ("image_id", "group_id", "source", "label", "strategy", "fold")
SOURCE_PATH = "source_path"
"""The file of an image, `SOURCE/relative/path`."""
PROBABILITY_COLUMNS = tuple(f"p_{label}" for label in CLASSES)
"""Softmax probabilities in the order of `CLASSES`; each row sums to 1."""

PREDICTIONS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id", SOURCE_PATH, "group_id", "source", "label", "strategy")),
        ("fold", pa.int32()),
        *((name, pa.float32()) for name in PROBABILITY_COLUMNS),
    ]
)
"""One row for each image and strategy, predicted by the network of the fold that holds the image out."""

INDETERMINATE = "indeterminate"
GATED_SCHEMA = PREDICTIONS_SCHEMA.append(pa.field(INDETERMINATE, pa.bool_()))
"""`PREDICTIONS_SCHEMA` of a study with a strategy that has a gate (`domain.gate`), whose rows say whether the answer is
indeterminate; null for other strategies."""

CONTRAST_SCHEMA = PREDICTIONS_SCHEMA.append(pa.field("finding", pa.string()))
"""One row for each contrast image and strategy, as in `PREDICTIONS_SCHEMA`; `label` is null, `finding` is in the words
of the collection."""


def probability_columns(probabilities: npt.NDArray[Any]) -> dict[str, pa.Array]:
    """Return probabilities (N, 7) as the columns `p_CLASS` of a table."""
    return {name: pa.array(probabilities[:, i]) for i, name in enumerate(PROBABILITY_COLUMNS)}
