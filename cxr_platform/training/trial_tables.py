"""The tables in the folder of a trial: one row per epoch, and the out-of-fold predictions."""

import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxr_platform.domain.predictions import (
    GATED_SCHEMA,
    INDETERMINATE,
    PREDICTIONS_SCHEMA,
    PROBABILITY_COLUMNS,
    SOURCE_PATH,
)
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import PredictionsError
from cxr_platform.labels import CLASSES
from cxr_platform.training.data import StudyData
from cxr_platform.training.trial import Epoch


def parse_predictions(key: TrialKey, file: Path, content: bytes | None) -> pa.Table:
    """Return the table in the `content` of `file`; raise `PredictionsError` if it is absent (`None`) or damaged."""
    try:
        if content is None:
            raise FileNotFoundError("no such file")
        table = pq.read_table(io.BytesIO(content))
        return table.cast(GATED_SCHEMA if INDETERMINATE in table.column_names else PREDICTIONS_SCHEMA)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise PredictionsError(
            f"Expected the predictions of {key} in {file}.",
            received=error,
            advice=f"Remove {file.parent}: the same command then runs this trial again.",
        ) from error


def history_table(history: Iterable[Epoch]) -> pa.Table:
    """Return one row per epoch."""
    return pa.Table.from_pylist([asdict(epoch) for epoch in history])


def predictions_table(
    key: TrialKey,
    data: StudyData,
    rows: NDArray[Any],
    probabilities: NDArray[Any],
    indeterminate: NDArray[Any] | None = None,
) -> pa.Table:
    """Return the out-of-fold predictions of `rows` in `PREDICTIONS_SCHEMA`; `probabilities` are (len(rows), 7).

    With the `indeterminate` answers (len(rows),) of a gate they are in `GATED_SCHEMA`.
    """
    columns = {
        "image_id": data.image_ids[rows],
        SOURCE_PATH: data.source_paths[rows],
        "group_id": data.group_ids[rows],
        "source": data.sources[rows],
        "label": np.array(CLASSES)[data.labels[rows]],
        "strategy": [key.strategy] * len(rows),
        "fold": np.full(len(rows), key.fold, "int32"),
        **dict(zip(PROBABILITY_COLUMNS, probabilities.T, strict=True)),
    }
    if indeterminate is None:
        return pa.table(columns, schema=PREDICTIONS_SCHEMA)
    return pa.table({**columns, INDETERMINATE: indeterminate}, schema=GATED_SCHEMA)
