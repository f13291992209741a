"""A table as data, and its two plain forms: CSV for programs, Markdown for people."""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cxr_platform.evaluation.metrics import Spread

Value = Spread | float | int | str | None

SYNTHETIC = "SYNTHETIC FILMS"
ABSENT = "–"
MINUS = "−"


@dataclass(frozen=True)
class Row:
    """One row: `labels` stand under the table's `headers`, `values` under its `columns`.

    `kind` is `"study"`, `"paper"`, `"difference"`, `"winner"`, `"absent"`, `"total"` or empty; it sets the row's look,
    and the floats of a difference carry a sign.
    """

    labels: tuple[str, ...]
    values: tuple[Value, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """One table of the report; `name` is also the name of its files."""

    name: str
    title: str
    headers: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    synthetic: bool = False

    @property
    def caption(self) -> str:
        """The title, marked where the films are synthetic."""
        return f"{self.title} · {SYNTHETIC}" if self.synthetic else self.title

    def spans(self) -> list[int]:
        """For each row, how many rows its first label covers: 0 where the row above carries it already."""
        spans: list[int] = []
        for _, group in itertools.groupby(self.rows, key=lambda row: row.labels[0]):
            length = len(list(group))
            spans += [length] + [0] * (length - 1)
        return spans


def text(value: Value, *, signed: bool = False) -> str:
    """A cell as people read it: two decimals, as the paper; mean ± standard deviation; a dash for what there is not."""
    if value is None:
        return ABSENT
    if isinstance(value, Spread):
        return _spread_text(value)
    if isinstance(value, float):
        if round(value, 2) == 0:
            return "0.00"  # no sign before nothing
        return f"{value:{'+' if signed else ''}.2f}".replace("-", MINUS)
    return f"{value:,}" if isinstance(value, int) else value


def _spread_text(value: Spread) -> str:
    mean = text(value.mean) if value.sd is None else f"{text(value.mean)} ± {text(value.sd)}"
    return f"{mean} ({value.defined} of {value.folds} folds)" if 0 < value.defined < value.folds else mean


def to_markdown(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, with its caption and note."""
    heads = [*table.headers, *table.columns]
    rules = ["---"] * len(table.headers) + ["---:"] * len(table.columns)
    lines = [f"**{table.caption}**", "", _markdown_row(heads), _markdown_row(rules)]
    for row, span in zip(table.rows, table.spans(), strict=True):
        labels = [row.labels[0] if span else "", *row.labels[1:]]
        lines.append(_markdown_row([*labels, *(text(v, signed=row.kind == "difference") for v in row.values)]))
    return "\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n"


def to_csv(table: Table) -> str:
    """The table as CSV: numbers bare, empty for what there is not, a column of its own for standard deviations.

    Where the films are synthetic a last column `films` says so in every row, because a CSV travels without its caption.
    """
    spread_columns = [any(isinstance(row.values[i], Spread) for row in table.rows) for i in range(len(table.columns))]
    heads = [*table.headers]
    for column, has_sd in zip(table.columns, spread_columns, strict=True):
        heads += [column, f"{column}, sd"] if has_sd else [column]
    lines = [heads + ["films"] * table.synthetic]
    for row in table.rows:
        cells = [cell for v, has_sd in zip(row.values, spread_columns, strict=True) for cell in _csv_cells(v, has_sd)]
        lines.append([*row.labels, *cells, *([SYNTHETIC] * table.synthetic)])
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def _csv_cells(value: Value, has_sd: bool) -> list[str]:
    if isinstance(value, Spread):
        return [_csv_cell(value.mean), _csv_cell(value.sd)]
    return [_csv_cell(value), ""] if has_sd else [_csv_cell(value)]


def _csv_cell(value: float | int | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
