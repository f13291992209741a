"""CSV tables of collections: reading their rows, and joining files with rows."""

import csv
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Collection as Names
from dataclasses import dataclass, field, replace
from pathlib import Path

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.eligibility import judge_view
from cxr_platform.intake.layouts.collection import Collection, Reading
from cxr_platform.intake.vocabulary import COLUMNS, parse_age, parse_sex

Row = dict[str, str]


@dataclass(frozen=True)
class Listed:
    """What a table states about one image; the fields are those of `Candidate`."""

    label: str | None
    finding: str
    patient: str | None
    view: str | None
    sex: str | None
    age: float | None
    refusal: Refusal | None


def listed(
    row: Row,
    finding: str,
    label: str | None,
    refusal: Refusal | None,
    selection: SelectionConfig,
    patient_id: Callable[[str], str] = str,
) -> Listed:
    """Return what `row` states about an image whose finding is already judged; patient, view, sex and age are optional.

    `patient_id` turns the text of the patient's column into the key that all images of the patient share.
    """
    view = cell(row, "view") or None
    return Listed(
        label=label,
        finding=finding,
        patient=patient_id(cell(row, "patient")) or None,
        view=view,
        sex=parse_sex(cell(row, "sex")),
        age=parse_age(cell(row, "age")),
        refusal=refusal or judge_view(view, selection),
    )


@dataclass
class Table:
    """The rows of a table by the key under which a file is listed.

    Several rows of one key are one image, which is refused if they state different labels.
    """

    path: Path
    images: dict[str, Listed] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, row: Listed) -> None:
        """Add one row."""
        self.rows[key] = self.rows.get(key, 0) + 1
        before = self.images.setdefault(key, row)
        if before.label != row.label:
            both = f"{before.finding or 'nothing'} and as {row.finding or 'nothing'}"
            self.images[key] = replace(before, label=None, refusal=Refusal("conflicting-label", f"listed as {both}"))


def read_rows(path: Path, required: Iterable[Names[str]]) -> Iterator[Row]:
    """Read the rows of a CSV with stripped values; column names in lower case, because copies spell them differently.

    Each of `required` holds the spellings of one column, of which the header must have one. Bytes that are not UTF-8
    (Figure 1's table has some) are replaced. Raises `SourceError` with the file, and the line or the columns.
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
    missing = [" or ".join(sorted(names)) for names in required if not set(names) & set(header)]
    if missing:
        raise SourceError(
            f"{path}: expected the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.",
            received=f"the columns {', '.join(header)}" if any(header) else "no header",
            advice="Use the table as published (commas between columns), or name the layout in sources.toml.",
        )


def cell(row: Row, column: str) -> str:
    """Return the first non-empty value among the spellings of `column` (a key of `COLUMNS`), else an empty text."""
    return next((row[name] for name in COLUMNS[column] if row.get(name)), "")


def join_files(
    collection: Collection,
    table: Table,
    *,
    key_of: Callable[[str], str | None],
    where: str,
    tables: Names[str],
) -> Reading:
    """Return a candidate per file: with what its row states, or `not-listed`.

    `key_of` returns the key of a file in `table`, `None` for a file outside the folders of images. `tables` are the
    files that are not candidates. Raises `SourceError`, which names `where` files are expected, if no row has its file.
    """
    matched: set[str] = set()
    candidates: list[Candidate] = []
    for file in collection.files:
        if file in tables:
            continue
        key = key_of(file)
        row = table.images.get(key) if key is not None else None
        if key is None or row is None:
            candidates.append(collection.refused(file, "not-listed", f"no row of {table.path.name} names this file"))
        else:
            matched.add(key)
            candidates.append(collection.candidate(file, **vars(row)))
    if not matched:
        raise SourceError(
            f"{table.path}: expected its images {where}.",
            received=f"none of the images of its {sum(table.rows.values())} rows",
            advice="Put the images there, or give the folder that has them.",
        )
    missing = sum(rows for key, rows in table.rows.items() if key not in matched)
    return Reading(candidates, [collection.source_path(name) for name in sorted(tables)], missing)
