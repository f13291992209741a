import pytest

from cxr_platform.evaluation.paper_form import paper_form_tables
from cxr_platform.evaluation.table import Table, text
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import drawn_frame


def tables_of(outcome) -> dict[str, Table]:
    return {table.name: table for table in paper_form_tables(outcome.results)}


def cells(table: Table, *labels: str) -> list[str]:
    """The cells of one row as they are shown."""
    row = next(row for row in table.rows if row.labels == labels)
    return [text(value, signed=row.kind == "difference") for value in row.values]


def test_there_are_tables_1_to_7_whatever_was_run(as_printed, all_strategies):
    names = [f"table-{number}" for number in range(1, 8)]

    assert list(tables_of(as_printed)) == list(tables_of(all_strategies)) == names


@pytest.mark.parametrize(
    ("table", "strategy", "printed"),
    [
        ("table-1", "Off-the-shelf features", ["88.81", "51.98", "4.62"]),
        ("table-5", "Training from scratch", ["99.18", "87.66", "97.36", "99.42"]),
    ],
)
def test_predictions_like_the_paper_s_give_the_paper_s_figures(as_printed, table, strategy, printed):
    found = tables_of(as_printed)[table]

    assert cells(found, strategy, "this study, pooled")[: len(printed)] == printed
    assert cells(found, strategy, "paper")[: len(printed)] == printed


def test_the_difference_is_between_the_mean_and_the_printed_figure(all_strategies):
    found = tables_of(all_strategies)["table-5"]
    mean = all_strategies.results["scratch"].mean

    assert cells(found, "Training from scratch", "mean − paper")[1] == text(mean.accuracy_7_class - 87.66, signed=True)


def test_what_the_paper_does_not_print_has_no_difference(as_printed):
    found = tables_of(as_printed)["table-1"]

    assert cells(found, "Off-the-shelf features", "paper")[3] == "–"
    assert cells(found, "Off-the-shelf features", "mean − paper")[3] == "–"


def test_table_4_has_the_six_rows_of_the_paper(all_strategies):
    found = tables_of(all_strategies)["table-4"]

    assert list(dict.fromkeys(row.labels[0] for row in found.rows)) == [f"Fine-tuning {k}" for k in (1, 3, 5, 7, 9, 11)]
    assert cells(found, "Fine-tuning 11", "paper") == ["92.33", "75.67", "82.96", "93.96"]


@pytest.mark.parametrize("name", ["table-2", "table-3", "table-6", "table-7"])
def test_matrices_like_the_paper_s_differ_by_nothing(as_printed, name):
    found = tables_of(as_printed)[name]
    ours = [row.values for row in found.rows if row.labels[0] == "this study (images)"]
    paper = [row.values for row in found.rows if row.labels[0] == "paper (images)"]
    gaps = [value for row in found.rows if row.labels[0] == "difference (points)" for value in row.values]

    assert ours == paper
    assert len(ours) == len(found.columns)
    assert gaps == [0.0] * len(found.columns) ** 2


def test_table_6_has_actual_classes_in_rows(as_printed):
    found = tables_of(as_printed)["table-6"]

    assert found.columns == CLASSES
    assert cells(found, "paper (images)", "Fibrosis") == ["7", "11", "37", "40", "184", "1", "0"]


def test_table_7_counts_true_and_false_positives(as_printed):
    found = tables_of(as_printed)["table-7"]

    assert cells(found, "this study (images)", "Covid19") == ["443", "12"]
    assert cells(found, "this study (images)", "non-Covid19") == ["20", "3,430"]


def test_differences_of_matrices_do_not_depend_on_the_number_of_images(all_strategies):
    found = tables_of(all_strategies)["table-7"]
    covid = all_strategies.results["scratch"].pooled.sensitivity

    assert cells(found, "difference (points)", "Covid19")[0] == text(covid - 100 * 443 / 455, signed=True)


def test_a_strategy_that_was_not_run_keeps_its_place_and_says_so(outcome):
    found = tables_of(outcome(drawn_frame({"scratch": 0.9})))

    assert cells(found["table-1"], "Off-the-shelf features", "this study: not run") == ["–"] * 4
    assert cells(found["table-1"], "Off-the-shelf features", "paper")[1] == "51.98"
    assert cells(found["table-2"], "this study (images)", "not run") == ["–"] * 7
    assert cells(found["table-2"], "paper (images)", "Covid19")[0] == "21"
    assert not any(row.kind == "difference" for row in found["table-2"].rows)
    assert sum(row.labels[1] == "this study: not run" for row in found["table-4"].rows) == 6
