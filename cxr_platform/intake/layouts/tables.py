"""CSV tables of collections: reading them, and giving each file its row."""

import csv
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Collection as Names
from dataclasses import dataclass, field, replace
from pathlib import Path

from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.layouts.collection import Collection, Reading

Row = dict[str, str]


@dataclass(frozen=True)
class Listed:
    """What a table says of one image; the fields are those of `Candidate`."""

    label: str | None = None
    finding: str = ""
    patient: str | None = None
    view: str | None = None
    sex: str | None = None
    age: float | None = None
    refusal: Refusal | None = None


@dataclass
class Table:
    """The rows of a table by the key under which a file finds its own.

    A key that stands twice is one image. Where its rows name different labels the image is refused.
    """

    path: Path
    images: dict[str, Listed] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, listed: Listed) -> None:
        """Take in one row."""
        self.rows[key] = self.rows.get(key, 0) + 1
        before = self.images.setdefault(key, listed)
        if before.label != listed.label:
            both = f"{before.finding or 'nothing'} and as {listed.finding or 'nothing'}"
            self.images[key] = replace(before, label=None, refusal=Refusal("conflicting-label", f"listed as {both}"))


def read_rows(path: Path, required: Iterable[Names[str]]) -> Iterator[Row]:
    """The rows of a CSV with stripped values; column names in lower case, since forks spell them differently.

    Each of `required` names a column by its spellings, one of which must stand in the header. Bytes that are no UTF-8
    (Figure 1's table has some) are replaced. Raises `SourceError` that names the file, and the line or the columns.
    """
    line = 0
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip().lower() for name in next(reader, [])]
            _check_header(path, header, required)
            for values in reader:
                line = reader.line_num
                if any(values):
                    padded = values + [""] * (len(header) - len(values))
                    yield {name: value.strip() for name, value in zip(header, padded, strict=False)}
    except (OSError, csv.Error) as error:
        raise SourceError(
            f"Expected a readable CSV at {path}.",
            received=f"{error} after line {line}",
            advice="Download the table again, or correct that line.",
        ) from error


def _check_header(path: Path, header: list[str], required: Iterable[Names[str]]) -> None:
    lacking = [" or ".join(sorted(names)) for names in required if not set(names) & set(header)]
    if lacking:
        raise SourceError(
            f"{path}: expected the column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}.",
            received=f"the columns {', '.join(header)}" if any(header) else "no header",
            advice="Use the table as published (commas between columns), or name the layout in sources.toml.",
        )


def first_of(row: Row, names: Iterable[str]) -> str:
    """The value of the first column of `names` that the table has and that is not empty, else an empty text."""
    return next((row[name] for name in names if row.get(name)), "")


def give_rows(
    collection: Collection,
    table: Table,
    *,
    key_of: Callable[[str], str | None],
    where: str,
    tables: Names[str],
) -> Reading:
    """One candidate a file: with what its row says, or `not-listed`.

    `key_of` is the key of a file in `table`, `None` where images do not lie. `tables` are the files that are no
    candidates. Raises `SourceError` where no row of the table has its file; `where` tells where those were looked for.
    """
    found: set[str] = set()
    candidates: list[Candidate] = []
    for file in collection.files:
        if file in tables:
            continue
        key = key_of(file)
        listed = table.images.get(key) if key is not None else None
        if key is None or listed is None:
            candidates.append(collection.refused(file, "not-listed", f"no row of {table.path.name} names this file"))
        else:
            found.add(key)
            candidates.append(collection.candidate(file, **vars(listed)))
    if not found:
        raise SourceError(
            f"{table.path}: expected its images {where}.",
            received=f"none of the images of its {sum(table.rows.values())} rows",
            advice="Put the images there, or give the folder that has them.",
        )
    missing = sum(rows for key, rows in table.rows.items() if key not in found)
    return Reading(candidates, [collection.source_path(name) for name in sorted(tables)], missing)
