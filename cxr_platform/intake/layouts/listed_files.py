"""Images of a folder with a table beside them that may state more of some files; files without a row are images too."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Self

from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts.collection import Collection, Reading
from cxr_platform.intake.layouts.tables import MetadataTable, match_rows


@dataclass(frozen=True)
class ListedFiles:
    """The images `files` of a collection, `names_of` those that a table lists, and what `reading` states of the table.

    A table that lists none of them is no table of theirs: its file is one of `files`, and nothing is read of it.
    """

    table: MetadataTable
    files: list[str]
    names_of: dict[str, list[str]]
    tables: list[str]
    missing_rows: int

    @classmethod
    def of(cls, collection: Collection, path: Path | None, table: MetadataTable) -> Self:
        """Return the files of `collection` that are not `table`, read from `path`, with the rows of each.

        Raises `SourceError` if a sources.toml names a table that lists none of them.
        """
        own = {file for file in collection.files if collection.folder / file == path}
        files = [file for file in collection.files if file not in own]
        names_of, missing = match_rows(table, files)
        if collection.table and not names_of:
            raise SourceError(
                f"{path}: expected its images in {collection.folder}.",
                received="none of them",
                advice="Put the images there, or take `table` out of sources.toml.",
            )
        if not names_of:
            return cls(table, list(collection.files), {}, [], 0)
        tables = [collection.source_path(file) for file in sorted(own)] or ([path.name] if path else [])
        return cls(table, files, names_of, tables, sum(len(table.rows[name]) for name in missing))

    def stated(self, file: str) -> dict[str, Any]:
        """Return the fields of a `Candidate` that the table states of a file; empty if it does not list it."""
        return self.table.combined(self.names_of[file]) if file in self.names_of else {}

    def reading(self, candidate: Callable[[str], Candidate]) -> Reading:
        """Return the collection as read, with the `candidate` of each file."""
        ignored = self.table.ignored_columns if self.names_of else []
        return Reading([candidate(file) for file in self.files], self.tables, self.missing_rows, ignored)
