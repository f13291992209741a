import numpy as np

from cxr_platform.domain.predictions import (
    GATED_SCHEMA,
    INDETERMINATE,
    KEY_COLUMNS,
    PREDICTIONS_SCHEMA,
    PROBABILITY_COLUMNS,
    SOURCE_PATH,
    probability_columns,
)
from cxr_platform.labels import CLASSES


def test_each_class_has_a_probability_in_single_precision() -> None:
    assert [name.removeprefix("p_") for name in PROBABILITY_COLUMNS] == list(CLASSES)
    assert {str(PREDICTIONS_SCHEMA.field(name).type) for name in PROBABILITY_COLUMNS} == {"float"}


def test_the_schema_has_the_keys_before_the_probabilities() -> None:
    assert tuple(PREDICTIONS_SCHEMA.names) == ("image_id", SOURCE_PATH, *KEY_COLUMNS[1:], *PROBABILITY_COLUMNS)
    assert str(PREDICTIONS_SCHEMA.field("fold").type) == "int32"
    assert str(PREDICTIONS_SCHEMA.field("image_id").type) == "string"


def test_probabilities_become_one_column_per_class() -> None:
    columns = probability_columns(np.eye(7, dtype="float32"))
    assert tuple(columns) == PROBABILITY_COLUMNS
    assert columns["p_Covid19"].to_pylist() == [1, 0, 0, 0, 0, 0, 0]


def test_predictions_at_a_gate_have_one_column_more() -> None:
    assert tuple(GATED_SCHEMA.names) == (*PREDICTIONS_SCHEMA.names, INDETERMINATE)
    assert str(GATED_SCHEMA.field(INDETERMINATE).type) == "bool"
