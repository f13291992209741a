import pytest

from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.report_tables import counts_table, paper_form_tables, report_tables
from cxr_platform.evaluation.table import Table
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import drawn_frame


def tables_of(results) -> dict[str, Table]:
    return {table.name: table for table in paper_form_tables(results.strategies)}


def cells(table: Table, *labels: str) -> list[str]:
    """The cells of one row as they are shown."""
    row = next(row for row in table.rows if row.labels == labels)
    return [text(value, signed=row.kind == "difference") for value in row.values]


def test_tables_1_to_7_are_always_there(as_printed, all_strategies):
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
    tables = tables_of(as_printed)[table]

    assert cells(tables, strategy, "this study, pooled")[: len(printed)] == printed
    assert cells(tables, strategy, "paper")[: len(printed)] == printed


def test_the_difference_is_between_the_mean_and_the_printed_figure(all_strategies):
    tables = tables_of(all_strategies)["table-5"]
    mean = all_strategies.strategies["scratch"].mean

    assert cells(tables, "Training from scratch", "mean − paper")[1] == text(mean.accuracy_7_class - 87.66, signed=True)


def test_what_the_paper_does_not_print_has_no_difference(as_printed):
    tables = tables_of(as_printed)["table-1"]

    assert cells(tables, "Off-the-shelf features", "paper")[3] == "–"
    assert cells(tables, "Off-the-shelf features", "mean − paper")[3] == "–"


def test_table_4_has_the_six_rows_of_the_paper(all_strategies):
    tables = tables_of(all_strategies)["table-4"]

    assert list(dict.fromkeys(row.labels[0] for row in tables.rows)) == [
        f"Fine-tuning {k}" for k in (1, 3, 5, 7, 9, 11)
    ]
    assert cells(tables, "Fine-tuning 11", "paper") == ["92.33", "75.67", "82.96", "93.96"]


@pytest.mark.parametrize("name", ["table-2", "table-3", "table-6", "table-7"])
def test_matrices_equal_to_the_paper_s_have_no_difference(as_printed, name):
    tables = tables_of(as_printed)[name]
    ours = [row.values for row in tables.rows if row.labels[0] == "this study (images)"]
    paper = [row.values for row in tables.rows if row.labels[0] == "paper (images)"]
    gaps = [value for row in tables.rows if row.labels[0] == "difference (points)" for value in row.values]

    assert ours == paper
    assert len(ours) == len(tables.columns)
    assert gaps == [0.0] * len(tables.columns) ** 2


def test_table_6_has_actual_classes_in_rows(as_printed):
    tables = tables_of(as_printed)["table-6"]

    assert tables.columns == CLASSES
    assert cells(tables, "paper (images)", "Fibrosis") == ["7", "11", "37", "40", "184", "1", "0"]


def test_table_7_counts_true_and_false_positives(as_printed):
    tables = tables_of(as_printed)["table-7"]

    assert cells(tables, "this study (images)", "Covid19") == ["443", "12"]
    assert cells(tables, "this study (images)", "non-Covid19") == ["20", "3,430"]


def test_differences_of_matrices_do_not_depend_on_the_number_of_images(all_strategies):
    tables = tables_of(all_strategies)["table-7"]
    covid = all_strategies.strategies["scratch"].pooled.sensitivity

    assert cells(tables, "difference (points)", "Covid19")[0] == text(covid - 100 * 443 / 455, signed=True)


def test_a_strategy_that_was_not_run_keeps_its_place_and_says_so(results):
    tables = tables_of(results(drawn_frame({"scratch": 0.9})))

    assert cells(tables["table-1"], "Off-the-shelf features", "this study: not run") == ["–"] * 4
    assert cells(tables["table-1"], "Off-the-shelf features", "paper")[1] == "51.98"
    assert cells(tables["table-2"], "this study (images)", "not run") == ["–"] * 7
    assert cells(tables["table-2"], "paper (images)", "Covid19")[0] == "21"
    assert not any(row.kind == "difference" for row in tables["table-2"].rows)
    assert sum(row.labels[1] == "this study: not run" for row in tables["table-4"].rows) == 6


def test_a_report_has_the_paper_s_tables_and_a_matrix_for_every_strategy(all_strategies):
    names = list(report_tables(all_strategies))

    assert names[0] == "summary"
    assert [f"table-{n}" for n in range(1, 8)] == names[1:8]
    assert [f"confusion-{name}" for name in STRATEGY_NAMES] == names[8:16]
    assert names[16:] == ["folds"]


def test_a_strategy_that_the_paper_does_not_have_is_in_every_table_but_the_paper_s(all_strategies, nine_strategies):
    tables = report_tables(nine_strategies)

    assert list(tables) == [*list(report_tables(all_strategies))[:16], "confusion-robust", "folds"]
    assert [row.labels[0] for row in tables["summary"].rows][1] == "Robust head"
    assert {row.labels[0] for row in tables["folds"].rows} >= {"Robust head"}
    assert not any("Robust" in row.labels[0] for n in range(1, 8) for row in tables[f"table-{n}"].rows)


def test_every_table_of_a_synthetic_study_is_marked(all_strategies, as_printed):
    assert all("SYNTHETIC IMAGES" in table.caption for table in report_tables(all_strategies).values())
    assert not any("SYNTHETIC" in table.caption for table in report_tables(as_printed).values())


def test_the_summary_is_best_first(all_strategies):
    rows = report_tables(all_strategies)["summary"].rows

    assert [row.values[0] for row in rows] == list(range(1, 9))
    assert rows[0].labels == ("Training from scratch",)
    assert rows[0].kind == "winner"
    means = [row.values[1].mean for row in rows]
    assert means == sorted(means, reverse=True)


def test_the_summary_shows_what_was_not_run(results):
    rows = report_tables(results(drawn_frame({"fine-tuning-3": 0.6, "scratch": 0.9})))["summary"].rows

    assert len(rows) == 8
    assert [row.values[0] for row in rows] == [1, 2] + ["not run"] * 6


def test_counts_add_up_by_class_and_by_source(all_strategies):
    table = counts_table(all_strategies)
    *classes, total = table.rows

    assert table.columns == ("actualmed", "cohen", "kermany", "nih", "all sources", "paper")
    assert dict(zip(table.columns, total.values, strict=True))["all sources"] == all_strategies.images
    assert total.values[-1] == 3905
    for row in classes:
        assert sum(row.values[:-2]) == row.values[-2]


def test_each_matrix_row_has_its_recall(as_printed):
    row = report_tables(as_printed)["confusion-scratch"].rows[3]

    assert row.labels == ("Emphysema",)
    assert row.values[:8] == (4, 34, 58, 156, 63, 0, 0, 315)
    assert row.values[8] == pytest.approx(100 * 156 / 315)


def test_every_fold_of_every_strategy_has_a_row(all_strategies):
    rows = report_tables(all_strategies)["folds"].rows

    assert len(rows) == 8 * 5
    assert sum(row.values[0] for row in rows) == 8 * all_strategies.images
