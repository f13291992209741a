"""A second table of labels: what readers state about images whose own labels are text-mined, for example.

The manifest keeps both. A row names its file as in a collection's own table (`file_names.FileNames`). Several readers
of one image are counted: the class that most of them state, or that they are undecided.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts.collection import Collection, ReaderTable
from cxr_platform.intake.layouts.csv_rows import read_rows
from cxr_platform.intake.layouts.file_names import FileNames
from cxr_platform.intake.vocabulary import CLASS_OF, COLUMNS, column_key, plain
from cxr_platform.labels import UNDECIDED

log = logging.getLogger(__name__)


def with_reader_labels(collection: Collection, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates of `collection` with what its readers state about them.

    Raise `SourceError` for a table that cannot be read or lacks a column, and for one that a sources.toml names but
    that names none of the files.
    """
    candidates, readers = list(candidates), collection.readers
    if readers is None:
        return candidates
    files = {c.path.relative_to(collection.folder).as_posix(): c for c in candidates}
    stated = _stated(readers, FileNames(files))
    if not stated and not readers.stated:  # a part of a public collection, beside the table of the whole
        log.warning("%s names none of the %d files of %s.", readers.path, len(files), collection.name)
        return candidates
    if not stated:
        raise SourceError(
            f"{readers.path}: expected readers' labels of images of {collection.name}.",
            received=f"none of its {len(files)} files",
            advice="Name files as they are called, or another column under reader_labels.file in sources.toml.",
        )
    return [_labelled(candidate, stated.get(file, []), readers) for file, candidate in files.items()]


def _stated(readers: ReaderTable, names: FileNames) -> dict[str, list[str]]:
    """Return file → what each of its readers states."""
    files, labels = _spellings(readers.file, "file"), _spellings(readers.label, "finding")
    stated: defaultdict[str, list[str]] = defaultdict(list)
    for row in read_rows(readers.path, (files, labels)):
        name, finding = (next((row[key] for key in keys if row.get(key)), "") for keys in (files, labels))
        for file in names.find(name) if name and finding else ():
            stated[file].append(finding)
    return dict(stated)


def _spellings(column: str | None, kind: str) -> tuple[str, ...]:
    return COLUMNS[kind] if column is None else (column_key(column),)


def _labelled(candidate: Candidate, findings: list[str], readers: ReaderTable) -> Candidate:
    if not findings:
        return candidate
    classes = readers.classes or CLASS_OF
    counted = Counter(classes.get(plain(finding)) for finding in findings).most_common(2)
    is_tie = len(counted) == 2 and counted[0][1] == counted[1][1]
    finding = " / ".join(dict.fromkeys(findings))
    return replace(candidate, reader_finding=finding, reader_label=UNDECIDED if is_tie else counted[0][0])
