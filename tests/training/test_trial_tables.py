import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.domain.predictions import GATED_SCHEMA, INDETERMINATE, PREDICTIONS_SCHEMA, PROBABILITY_COLUMNS
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import PredictionsError
from cxr_platform.labels import CLASSES
from cxr_platform.training.trial import Epoch
from cxr_platform.training.trial_tables import history_table, parse_predictions, predictions_table
from tests.training.builders import tiny_data

KEY, FILE = TrialKey("scratch", 1), Path("trials/scratch/fold-1/predictions.parquet")


def test_the_history_has_a_row_for_each_epoch() -> None:
    epochs = [Epoch(number, 2, 1.0 / number, 0.5, 0.001, 3.0) for number in (1, 2)]
    table = history_table(epochs)
    assert table["epoch"].to_pylist() == [1, 2]
    assert table["loss"].to_pylist() == [1.0, 0.5]


def test_predictions_have_the_facts_of_their_images_in_the_order_of_the_rows() -> None:
    data, rows = tiny_data(), np.array([9, 2])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), 2).astype("float32")
    table = predictions_table(KEY, data, rows, probabilities)
    assert table.schema == PREDICTIONS_SCHEMA
    assert table["image_id"].to_pylist() == ["image-009", "image-002"]
    assert table["label"].to_pylist() == [CLASSES[data.labels[9]], CLASSES[data.labels[2]]]
    assert np.array_equal(np.stack([table[name].to_numpy() for name in PROBABILITY_COLUMNS], 1), probabilities)
    content = io.BytesIO()
    pq.write_table(table, content)
    assert parse_predictions(KEY, FILE, content.getvalue()) == table


def test_answers_at_a_gate_are_kept_with_the_predictions() -> None:
    data, rows = tiny_data(), np.array([9, 2])
    probabilities = np.full((2, len(CLASSES)), 1 / len(CLASSES), "float32")
    table = predictions_table(KEY, data, rows, probabilities, np.array([True, False]))
    assert table.schema == GATED_SCHEMA
    content = io.BytesIO()
    pq.write_table(table, content)
    assert parse_predictions(KEY, FILE, content.getvalue())[INDETERMINATE].to_pylist() == [True, False]


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more"])
def test_predictions_that_are_absent_or_damaged_are_an_error_that_names_the_file(content: bytes | None) -> None:
    with pytest.raises(PredictionsError, match=r"scratch fold 1 in trials/.*Remove trials/scratch/fold-1"):
        parse_predictions(KEY, FILE, content)
