"""Rows of a CSV file, as people save it: encoding, delimiter and header are recognised, columns have several names."""

import csv
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Collection as Names
from pathlib import Path
from typing import TextIO

from cxr_platform.errors import SourceError
from cxr_platform.intake.vocabulary import COLUMNS, column_key

MetadataRow = dict[str, str]
"""Values by the `column_key` of their column."""

DELIMITERS = ",;\t|"
_LATIN_1 = {0xDC80 + i: bytes([0x80 + i]).decode("cp1252", "replace") for i in range(0x80)}
"""From bytes that are not UTF-8, as `surrogateescape` reads them, to the characters of Windows-1252 and Latin-1."""


def read_header(path: Path) -> list[str]:
    """Return the column names of a table as they are written, stripped; raise `SourceError` if it cannot be read."""
    try:
        with _open(path) as stream:
            return [name.strip() for name in next(csv.reader(_lines(stream), delimiter=_delimiter(path)), [])]
    except (OSError, csv.Error) as error:
        raise _not_readable(path, error, 0) from error


def read_rows(path: Path, required: Iterable[Names[str]]) -> Iterator[MetadataRow]:
    """Read the rows of a table with stripped values; the delimiter is a comma, a semicolon, a tab or a bar.

    Of two columns with one key the first one with a value counts.

    Each of `required` holds the spellings of one column, of which the header must have one. The file is UTF-8, with or
    without a byte order mark, or UTF-16 with one; other bytes are read as Latin-1 (Figure 1's table has some). Raises
    `SourceError` with the file, and the line or the columns.
    """
    line = 0
    try:
        with _open(path) as stream:
            reader = csv.reader(_lines(stream), delimiter=_delimiter(path))
            names = [name.strip() for name in next(reader, [])]
            header = [column_key(name) for name in names]
            _check_header(path, names, header, required)
            for values in reader:
                line = reader.line_num
                if any(values):
                    padded = values + [""] * (len(header) - len(values))
                    row: MetadataRow = {}
                    for name, value in zip(header, padded, strict=False):
                        row[name] = row.get(name) or value.strip()
                    yield row
    except (OSError, csv.Error) as error:
        raise _not_readable(path, error, line) from error


def _open(path: Path) -> TextIO:
    with path.open("rb") as stream:
        start = stream.read(2)
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return path.open(encoding=encoding, errors="surrogateescape", newline="")


def _lines(stream: Iterable[str]) -> Iterator[str]:
    return (line if line.isascii() else line.translate(_LATIN_1) for line in stream)


def _delimiter(path: Path) -> str:
    """Return the delimiter that the header has most of."""
    with _open(path) as stream:
        header = next(iter(stream), "")
    return max(DELIMITERS, key=header.count)


def _not_readable(path: Path, error: Exception, line: int) -> SourceError:
    return SourceError(
        f"Expected a readable CSV at {path}.",
        received=f"{error} after line {line}",
        advice="Download the table again, or correct that line.",
    )


def _check_header(path: Path, names: list[str], header: list[str], required: Iterable[Names[str]]) -> None:
    missing = [list(spellings) for spellings in required if not set(spellings) & set(header)]
    if missing:
        columns = ", ".join(" or ".join(spellings[:4]) for spellings in missing)
        raise SourceError(
            f"{path}: expected the column{'s' if len(missing) > 1 else ''} {columns}.",
            received=f"the columns {', '.join(names)}" if any(names) else "no header",
            advice="Rename the columns, use the table as published, or name the layout in sources.toml.",
        )


def cell(row: MetadataRow, column: str, understood: Callable[[str], object] = bool) -> str:
    """Return the first value among the spellings of `column` (a key of `COLUMNS`) that is `understood`.

    If none is, return the first one that is not empty, else an empty text.
    """
    values = [row[name] for name in COLUMNS[column] if row.get(name)]
    return next(filter(understood, values), values[0] if values else "")
