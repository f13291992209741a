"""A table of the report, and its CSV and Markdown forms."""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.formatting import Value, text
from cxr_platform.evaluation.metrics import Spread

SYNTHETIC = "SYNTHETIC IMAGES"


@dataclass(frozen=True)
class Row:
    """One row: `labels` are under the table's `headers`, `values` under its `columns`.

    `kind` sets the look: `"study"`, `"paper"`, `"difference"` (its floats are signed), `"winner"`, `"absent"`,
    `"small"` (too few images to support a conclusion), `"total"` or empty.
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
        """The title, marked if the images are synthetic."""
        return f"{self.title} · {SYNTHETIC}" if self.synthetic else self.title

    def spans(self) -> list[int]:
        """Return, per row, how many rows its first label covers: 0 if the row above covers it."""
        spans: list[int] = []
        for _, group in itertools.groupby(self.rows, key=lambda row: row.labels[0]):
            length = len(list(group))
            spans += [length] + [0] * (length - 1)
        return spans


def to_markdown(table: Table) -> str:
    """Return the table as GitHub-flavoured Markdown, with its caption and note."""
    heads = [*table.headers, *table.columns]
    rules = ["---"] * len(table.headers) + ["---:"] * len(table.columns)
    lines = [f"**{table.caption}**", "", _markdown_row(heads), _markdown_row(rules)]
    for row, span in zip(table.rows, table.spans(), strict=True):
        labels = [row.labels[0] if span else "", *row.labels[1:]]
        lines.append(_markdown_row([*labels, *(text(v, signed=row.kind == "difference") for v in row.values)]))
    return "\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n"


def to_csv(table: Table) -> str:
    """Return the table as CSV: plain numbers, empty cells for `None`, columns of their own for deviations and bounds.

    Synthetic images are marked in every row by a last column `images`, because a CSV file has no caption.
    """
    extras = [_extra_columns([row.values[i] for row in table.rows]) for i in range(len(table.columns))]
    heads = [*table.headers]
    for column, further in zip(table.columns, extras, strict=True):
        heads += [column, *(f"{column}, {name}" for name in further)]
    lines = [heads + ["images"] * table.synthetic]
    for row in table.rows:
        cells = [cell for v, further in zip(row.values, extras, strict=True) for cell in _csv_cells(v, further)]
        lines.append([*row.labels, *cells, *([SYNTHETIC] * table.synthetic)])
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def _extra_columns(values: Sequence[Value]) -> tuple[str, ...]:
    spreads = ("sd",) if any(isinstance(v, Spread) for v in values) else ()
    return (*spreads, *(("low", "high") if any(isinstance(v, Interval) for v in values) else ()))


def _csv_cells(value: Value, further: Sequence[str]) -> list[str]:
    parts: dict[str, float | None] = {}
    if isinstance(value, Spread):
        parts, value = {"sd": value.sd}, value.mean
    elif isinstance(value, Interval):
        parts, value = {"low": value.low, "high": value.high}, value.value
    return [_csv_cell(value), *(_csv_cell(parts.get(name)) for name in further)]


def _csv_cell(value: float | int | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
