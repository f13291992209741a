"""Public collections that need more than a layout: the tables of public_collections.toml, which explains them."""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import Field

from cxr_platform.errors import SourceError
from cxr_platform.intake.layouts.collection import Collection
from cxr_platform.intake.layouts.csv_rows import read_header
from cxr_platform.intake.layouts.sources_toml import LayoutName, SourceKeys
from cxr_platform.intake.vocabulary import column_key
from cxr_platform.validation import read_toml, validate

TABLES = "public_collections.toml"


class PublicCollection(SourceKeys):
    """One table of public_collections.toml."""

    has: tuple[str, ...] = Field(min_length=1)
    columns: tuple[str, ...] = ()

    def fits(self, collection: Collection) -> bool:
        """Return True if `collection` has the files, and its table the columns."""
        patterns = (re.compile(fnmatch.translate(pattern)).match for pattern in self.has)
        if not all(any(map(fitting, collection.files)) for fitting in patterns):
            return False
        if not self.columns or self.table is None:
            return True
        try:
            header = {column_key(name) for name in read_header(collection.folder / self.table)}
        except SourceError:  # a table of that name, but not this collection's
            return False
        return header >= {column_key(name) for name in self.columns}


@cache
def public_collections() -> Mapping[str, PublicCollection]:
    """Return the collections by name."""
    file = Path(str(resources.files("cxr_platform.intake.layouts"))) / TABLES
    return validate(dict[str, PublicCollection], read_toml(file), str(file))


def described(collection: Collection) -> tuple[Collection, LayoutName] | None:
    """Return `collection` as the public collection that it is, with the layout; `None` if it is none of them."""
    public = _public(collection)
    if public is None or public.implied_layout is None:
        return None
    table = collection.folder / public.table if public.table else None
    known = replace(collection, labels=public.labels, label=public.label, table=table)
    return _completed(known, public), public.implied_layout


def completed(collection: Collection) -> Collection:
    """Return a `collection` whose layout a sources.toml states, with what else is known of it, if it is a public one.

    That are its files that may be images, its origin and its readers; what the sources.toml states comes first.
    """
    public = _public(collection)
    return collection if public is None else _completed(collection, public)


def _public(collection: Collection) -> PublicCollection | None:
    return next((public for public in public_collections().values() if public.fits(collection)), None)


def _completed(collection: Collection, public: PublicCollection) -> Collection:
    readers = public.reader_labels
    path = collection.folder / readers.table if readers else None
    return replace(
        collection,
        patterns=collection.patterns or public.files,
        origin=collection.origin or public.origin,
        readers=collection.readers
        or (replace(readers.at(path), stated=False) if readers and path and path.is_file() else None),
    )
