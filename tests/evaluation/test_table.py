import csv
import io

import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.metrics import Spread
from cxr_platform.evaluation.table import Row, Table, to_csv, to_markdown

TABLE = Table(
    name="example",
    title="Table 9. Example",
    headers=("Strategy", "Figures"),
    columns=("Accuracy (%)", "images"),
    rows=(
        Row(("Scratch", "mean"), (Spread(87.656, 1.234, 10, 10), 3905)),
        Row(("Scratch", "paper"), (87.66, None)),
        Row(("Scratch", "difference"), (-0.0361, None), "difference"),
        Row(("Other", "mean"), ("not run", None)),
    ),
    note="A note.",
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        ("not run", "not run"),
        (1341, "1,341"),
        (87.656, "87.66"),
        (-3.5, "−3.50"),
        (Spread(87.656, 1.234, 10, 10), "87.66 ± 1.23"),
        (Spread(87.656, None, 1, 10), "87.66 (1 of 10 folds)"),
        (Spread(87.656, 1.0, 9, 10), "87.66 ± 1.00 (9 of 10 folds)"),
        (Spread(None, None, 0, 10), "–"),
        (Interval(87.656, 85.0, 89.994), "87.66 (85.00 to 89.99)"),
        (Interval(0.98765, 0.9, 1.0, ratio=True), "0.988 (0.900 to 1.000)"),
        (Interval(1.5, -0.001, 3.0, signed=True), "+1.50 (0.00 to +3.00)"),
        (Interval(0.98765, ratio=True), "0.988"),
        (Interval(None), "–"),
    ],
)
def test_cells_read_as_the_paper_prints_them(value, shown):
    assert text(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(3.5, "+3.50"), (-3.5, "−3.50"), (0.0, "0.00"), (-0.001, "0.00")])
def test_differences_carry_their_sign_unless_there_is_none(value, shown):
    assert text(value, signed=True) == shown


def test_a_first_label_is_spanned_over_its_rows():
    assert TABLE.spans() == [3, 0, 0, 1]


def test_markdown_has_caption_head_rows_and_note():
    lines = to_markdown(TABLE).splitlines()

    assert lines[0] == "**Table 9. Example**"
    assert lines[2] == "| Strategy | Figures | Accuracy (%) | images |"
    assert lines[4] == "| Scratch | mean | 87.66 ± 1.23 | 3,905 |"
    assert lines[6] == "|  | difference | −0.04 | – |"
    assert lines[-1] == "A note."


def test_a_bar_in_a_name_does_not_break_markdown():
    table = Table("x", "X", ("Class",), ("a|b",), (Row(("c|d",), (1,)),))

    assert r"| Class | a\|b |" in to_markdown(table)
    assert r"| c\|d | 1 |" in to_markdown(table)


def test_csv_has_bare_numbers_and_a_column_for_deviations():
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE))))

    assert list(rows[0]) == ["Strategy", "Figures", "Accuracy (%)", "Accuracy (%), sd", "images"]
    assert list(rows[0].values()) == ["Scratch", "mean", "87.6560", "1.2340", "3905"]
    assert rows[1]["images"] == ""
    assert float(rows[2]["Accuracy (%)"]) == pytest.approx(-0.0361)
    assert rows[3]["Strategy"] == "Other"


def test_csv_has_columns_for_the_bounds_of_intervals():
    rows = (Row(("a",), (Interval(80.0, 70.0, 90.0), 1)), Row(("b",), (None, 2)))
    table = Table("t", "T", ("Name",), ("Accuracy (%)", "images"), rows)
    assert list(csv.reader(io.StringIO(to_csv(table)))) == [
        ["Name", "Accuracy (%)", "Accuracy (%), low", "Accuracy (%), high", "images"],
        ["a", "80.0000", "70.0000", "90.0000", "1"],
        ["b", "", "", "", "2"],
    ]


def test_synthetic_images_are_marked_in_the_caption_and_in_every_csv_row():
    table = Table("x", "X", ("Class",), ("n",), (Row(("a",), (1,)), Row(("b",), (2,))), synthetic=True)

    assert to_markdown(table).startswith("**X · SYNTHETIC IMAGES**")
    assert [row["images"] for row in csv.DictReader(io.StringIO(to_csv(table)))] == ["SYNTHETIC IMAGES"] * 2


@pytest.mark.parametrize(("value", "shown"), [(70.0, "70.00"), (10.0, "10.00"), (-0.001, "0.00"), (-20.0, "−20.00")])
def test_trailing_zeros_are_kept_and_zero_has_no_sign(value: float, shown: str) -> None:
    assert text(value) == shown
