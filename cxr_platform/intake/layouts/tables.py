"""The tables of collections: what their rows state about images, and which files these are."""

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Collection as Names
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.eligibility import judge_body_part, judge_view
from cxr_platform.intake.layouts.collection import Collection, Reading, as_text
from cxr_platform.intake.layouts.csv_rows import MetadataRow, cell, read_header, read_rows
from cxr_platform.intake.layouts.file_names import FileNames
from cxr_platform.intake.vocabulary import (
    COLUMNS,
    column_key,
    folded,
    names_no_patient,
    names_other_finding,
    parse_age,
    parse_sex,
    view_kind,
)

JudgeFindings = Callable[[Sequence[str]], tuple[str | None, Refusal | None]]
"""From the findings of the rows of one file to its class and refusal."""

UNDERSTOOD = frozenset(name for names in COLUMNS.values() for name in names)
NEARLY = "; nearly: "
"""In the detail of `not-listed`, before the row that nearly names the file."""
NEAR_MISSES = 2000
"""With more rows or files that are not matched, near misses are not searched: the time grows with their product."""


@dataclass(frozen=True)
class Listed:
    """What one row states about an image; `sex` is as it is written.

    `refusal` is for the finding or the modality, `of_image` for what holds whatever the finding of the row.
    """

    label: str | None
    finding: str
    patient: str | None
    view: str | None
    sex: str | None
    age: float | None
    refusal: Refusal | None
    of_image: Refusal | None


def listed(
    row: MetadataRow,
    finding: str,
    label: str | None,
    refusal: Refusal | None,
    selection: SelectionConfig,
    patient_id: Callable[[str], str] = str,
) -> Listed:
    """Return what `row` states about an image whose finding is already judged; patient, view, sex and age are optional.

    `patient_id` turns the text of the patient's column into the key that all images of the patient share. A text that
    stands for no patient (`REMOVED`, `unknown`) gives none.
    """
    modality = refusal if refusal and refusal.reason == "modality" else None
    view, patient = cell(row, "view", view_kind) or None, cell(row, "patient", lambda text: not names_no_patient(text))
    return Listed(
        label=label,
        finding=finding,
        patient=None if names_no_patient(patient) else patient_id(patient) or None,
        view=view,
        sex=cell(row, "sex", parse_sex) or None,
        age=parse_age(cell(row, "age", lambda text: parse_age(text) is not None)),
        refusal=refusal,
        of_image=modality or judge_view(view, selection) or judge_body_part(cell(row, "body_part")),
    )


@dataclass
class MetadataTable:
    """The rows of a table by the name under which it lists a file.

    `judge` gives class and refusal of a file with several rows, one finding or one reader each, from all its findings.
    `ignored_columns` are those that no layout understands. `sexes` are the values of the column of sexes, which show
    what an M in it means (`vocabulary.parse_sex`).
    """

    path: Path
    judge: JudgeFindings
    rows: dict[str, list[Listed]] = field(default_factory=dict)
    ignored_columns: list[str] = field(default_factory=list)
    sexes: set[str] = field(default_factory=set)

    def read(self, required: Iterable[Names[str]], known: Names[str] = ()) -> Iterator[MetadataRow]:
        """Yield the rows of the file (see `read_rows`); columns neither in `COLUMNS` nor `known` are ignored ones."""
        header = read_header(self.path)
        self.ignored_columns = [name for name in header if name and column_key(name) not in UNDERSTOOD | set(known)]
        return read_rows(self.path, required)

    def add(self, name: str, row: Listed) -> None:
        """Add one row."""
        self.rows.setdefault(name, []).append(row)
        self.sexes.add(folded(row.sex or ""))

    def combined(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the fields of the `Candidate` of one file that all rows of these names list.

        Of patient, view, sex and age the first value that is understood counts. A view or another part of the body
        in any row refuses the image. Rows of Normal and of another class are refused as contradicting each other.
        """
        rows = [row for name in names for row in self.rows[name]]
        views = [row.view for row in rows if row.view]
        label, finding, refusal = self._judged(rows)
        of_image = next((row.of_image for row in rows if row.of_image), None)
        not_studied = refusal is not None and refusal.reason == "finding-not-studied"
        return {
            "label": label,
            "finding": finding,
            "patient": next((row.patient for row in rows if row.patient), None),
            "view": next(filter(view_kind, views), views[0] if views else None),
            "sex": next(filter(None, (parse_sex(row.sex or "", self.sexes) for row in rows)), None),
            "age": next((row.age for row in rows if row.age is not None), None),
            "refusal": refusal or of_image,
            "other_finding": not_studied and of_image is None and names_other_finding(finding),
        }

    def _judged(self, rows: Sequence[Listed]) -> tuple[str | None, str, Refusal | None]:
        """Return class, finding and refusal of a file from the findings of its rows."""
        by_label = {row.label: row.finding for row in rows if row.label}
        findings = list(dict.fromkeys(row.finding for row in rows if row.finding))
        if len(by_label) > 1 and "Normal" in by_label:
            text = f"listed as {' and as '.join(by_label.values())}"
            return None, rows[0].finding, Refusal("conflicting-label", text)
        if len(findings) > 1:
            label, refusal = self.judge(findings)
            return label, ", ".join(findings), refusal
        stated = next((row for row in rows if row.finding), rows[0])
        return stated.label, stated.finding, stated.refusal


def join_files(
    collection: Collection,
    table: MetadataTable,
    *,
    where: str,
    tables: Names[str],
    holds_images: Callable[[str], bool] = lambda _: True,
    unique: bool = True,
) -> Reading:
    """Return a candidate per file: with what its rows state, or `not-listed`.

    A row names a file as `FileNames` describes. `holds_images` is false for files outside the folders of images.
    `tables` are the files that are not candidates. Raises `SourceError` if no row of the table has its file (`where`
    says where files are expected), and with `unique` if a row names several.
    """
    files = [file for file in collection.files if file not in tables]
    names_of, missing = match_rows(table, filter(holds_images, files), unique)
    unlisted = [file for file in files if file not in names_of]
    near = _near_misses(unlisted, missing)
    candidates: list[Candidate] = []
    for file in files:
        if file in names_of:
            candidates.append(collection.candidate(file, **table.combined(names_of[file])))
        else:
            hint = f"{NEARLY}{near[file]}" if file in near else ""
            detail = f"no row of {table.path.name} names this file{hint}"
            candidates.append(collection.refused(file, "not-listed", detail))
    if not names_of:
        raise SourceError(
            f"{table.path}: expected its images {where}.",
            received=f"none of the images of its {sum(map(len, table.rows.values()))} rows",
            advice="Put the images there, or give the folder that has them.",
        )
    return Reading(
        candidates,
        [collection.source_path(name) for name in sorted(tables)],
        sum(len(table.rows[name]) for name in missing),
        table.ignored_columns,
    )


def match_rows(
    table: MetadataTable, files: Iterable[str], unique: bool = True
) -> tuple[dict[str, list[str]], list[str]]:
    """Return file → names under which `table` lists it, and the names that are no file's."""
    known = FileNames(files)
    found = {name: known.find(name) for name in table.rows}
    exact = {file for name, matches in found.items() for file in matches if known.is_exact(name, file)}
    names_of: defaultdict[str, list[str]] = defaultdict(list)
    missing = []
    for name, matches in found.items():
        # A file that a row names exactly is not the file of a row that names it nearly.
        own = [file for file in matches if known.is_exact(name, file) or file not in exact]
        if len(own) > 1 and unique:
            raise SourceError(
                f"{table.path}: expected names that one file has.",
                received=f"{name}, which {len(own)} files are called: {', '.join(as_text(f) for f in sorted(own)[:3])}",
                advice="Write paths relative to the folder in place of names, with their extension.",
            )
        if not own:
            missing.append(name)
        for file in own:
            names_of[file].append(name)
    for file, names in names_of.items():
        if len(names) > 1 and file not in exact:
            raise SourceError(
                f"{table.path}: expected one name for each file.",
                received=f"{' and '.join(names[:3])}, which all may name {as_text(file)}",
                advice="Write the names as the files are called, with their extension.",
            )
    return dict(names_of), missing


def _near_misses(files: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return file → the row that nearly names it: the same name in another folder, or a similar one."""
    by_name = {FileNames.fold(name).rpartition("/")[2]: name for name in names}
    near = {file: by_name[key] for file in files if (key := FileNames.fold(file).rpartition("/")[2]) in by_name}
    if len(files) > NEAR_MISSES or len(names) * len(files) > NEAR_MISSES * 100:
        return near
    for file in files:
        if file not in near:
            similar = difflib.get_close_matches(FileNames.fold(file).rpartition("/")[2], by_name, n=1, cutoff=0.75)
            near.update((file, by_name[name]) for name in similar)
    return near
