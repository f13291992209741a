import pytest

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.tables import counts_table, report_tables
from tests.evaluation.builders import drawn_frame


def test_a_report_has_the_paper_s_tables_and_a_matrix_for_every_strategy(all_strategies):
    names = list(report_tables(all_strategies))

    assert names[0] == "summary"
    assert [f"table-{n}" for n in range(1, 8)] == names[1:8]
    assert [f"confusion-{name}" for name in TITLES] == names[8:16]
    assert names[16:] == ["folds"]


def test_every_table_of_a_synthetic_study_is_marked(all_strategies, as_printed):
    assert all("SYNTHETIC IMAGES" in table.caption for table in report_tables(all_strategies).values())
    assert not any("SYNTHETIC" in table.caption for table in report_tables(as_printed).values())


def test_the_summary_stands_best_first(all_strategies):
    rows = report_tables(all_strategies)["summary"].rows

    assert [row.values[0] for row in rows] == list(range(1, 9))
    assert rows[0].labels == ("Training from scratch",)
    assert rows[0].kind == "winner"
    means = [row.values[1].mean for row in rows]
    assert means == sorted(means, reverse=True)


def test_the_summary_shows_what_was_not_run(outcome):
    rows = report_tables(outcome(drawn_frame({"fine-tuning-3": 0.6, "scratch": 0.9})))["summary"].rows

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


def test_recall_stands_beside_each_matrix_row(as_printed):
    row = report_tables(as_printed)["confusion-scratch"].rows[3]

    assert row.labels == ("Emphysema",)
    assert row.values[:8] == (4, 34, 58, 156, 63, 0, 0, 315)
    assert row.values[8] == pytest.approx(100 * 156 / 315)


def test_every_fold_of_every_strategy_has_a_row(all_strategies):
    rows = report_tables(all_strategies)["folds"].rows

    assert len(rows) == 8 * 5
    assert sum(row.values[0] for row in rows) == 8 * all_strategies.images
