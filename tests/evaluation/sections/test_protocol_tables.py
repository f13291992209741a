import numpy as np
import pytest

from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.sections.protocol_tables import protocol_tables
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.table import Table
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import probabilities

LABELS = np.repeat([CLASSES.index(name) for name in ("Covid19", "Pneumonia", "Normal")], 40)
NORMAL = CLASSES.index("Normal")


def answered(wrong: dict[str, int]) -> Predictions:
    """Each strategy calls the first of its images of every class Normal; two images have one patient."""
    number = np.arange(len(LABELS))
    told = {name: np.where(number % 40 < count, NORMAL, LABELS) for name, count in wrong.items()}
    ids = number.astype(str).astype(object)
    return Predictions(
        ids, (number // 2).astype(str).astype(object), ids, LABELS, number % 2, 2,
        {name: probabilities(predicted) for name, predicted in told.items()},
    )  # fmt: skip


def tables(grouped: dict[str, int], paper: dict[str, int]) -> dict[str, Table]:
    ours = answered(grouped)
    made = protocol_tables(answered(paper), ours, Bootstrap(ours.group_id, seed=1), synthetic=True)
    return {table.name.partition("-by")[0]: table for table in made}


def test_all_seven_tables_are_there_if_both_studies_have_the_strategies() -> None:
    some = {"off-the-shelf": 20, "fine-tuning-5": 10, "scratch": 4}
    made = tables(some, some)
    assert list(made) == [f"table-{number}" for number in range(1, 8)]
    assert all(table.synthetic for table in made.values())


def test_a_strategy_of_one_study_alone_has_no_table() -> None:
    assert list(tables({"scratch": 4, "off-the-shelf": 4}, {"scratch": 2})) == ["table-5", "table-6", "table-7"]


def test_metrics_stand_beside_the_papers_with_intervals_and_the_paired_difference() -> None:
    rows = {row.labels[1]: row.values for row in tables({"scratch": 20}, {"scratch": 10})["table-5"].rows}
    seven, sensitivity = 1, 2
    assert rows["grouped folds"][seven].value == pytest.approx(100 * 2 / 3)
    assert rows["shuffled folds"][seven].value == pytest.approx(100 * 5 / 6)
    assert (rows["grouped folds"][sensitivity].value, rows["shuffled folds"][sensitivity].value) == (50, 75)
    assert text(rows["shuffled − grouped"][sensitivity]).startswith("+25.00 (+")
    assert rows["grouped folds"][seven].low < 66.6 < rows["grouped folds"][seven].high
    assert rows["paper"] == (99.18, 87.66, 97.36, 99.42)


def test_matrices_are_percentages_of_the_actual_class_with_intervals() -> None:
    made = tables({"scratch": 20}, {"scratch": 10})
    covid = {row.labels[1]: row.values for row in made["table-6"].rows if row.labels[0] == "Covid19"}
    assert [covid[name][NORMAL].value for name in ("grouped folds", "shuffled folds")] == [50, 25]
    assert covid["grouped folds"][NORMAL].low < 50 < covid["grouped folds"][NORMAL].high
    assert sum(covid["paper"]) == pytest.approx(100)
    edema = next(row for row in made["table-6"].rows if row.labels == ("Edema", "grouped folds"))
    assert {share.value for share in edema.values} == {None}


def test_two_class_matrices_are_of_covid19_against_the_rest() -> None:
    rows = {row.labels: row.values for row in tables({"scratch": 20}, {"scratch": 10})["table-7"].rows}
    assert [share.value for share in rows["Covid19", "grouped folds"]] == [50, 50]
    assert [share.value for share in rows["non-Covid19", "shuffled folds"]] == [0, 100]
    assert rows["Covid19", "paper"][0] == pytest.approx(97.36, abs=0.01)
