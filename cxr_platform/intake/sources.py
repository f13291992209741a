"""The images of a folder: which collections lie in it, and what these say of every file. No image is opened here."""

from collections.abc import Collection as Names
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts import class_folder, cohen, declared, dicom, kermany, nih, phantoms
from cxr_platform.intake.layouts.collection import Collection, Layout, as_text, walk

LAYOUTS: tuple[Layout, ...] = (
    phantoms.LAYOUT,
    nih.LAYOUT,
    cohen.LAYOUT,
    dicom.LAYOUT,
    kermany.LAYOUT,
    class_folder.LAYOUT,
)
"""In the order in which a folder is compared with them; the last is the least specific."""

_WEAK = (dicom.LAYOUT, class_folder.LAYOUT)
_SHOWN = 8

LOOSE = "."
"""The source of files that lie in DATA but in none of its collections."""


@dataclass(frozen=True)
class Found:
    """Every file of DATA: a candidate, or one of the `tables` (as `SOURCE/relative/path`) that were read.

    `candidates` are sorted by `source_path`. `missing_files` counts, for each source, rows of its table without a file.
    `synthetic_sources` are those whose images were drawn, not taken. `folders` are those of the sources, absolute.
    """

    candidates: list[Candidate]
    missing_files: dict[str, int] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    synthetic_sources: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Source:
    collection: Collection
    layout: Layout


def find_candidates(data: Path, selection: SelectionConfig) -> Found:
    """Every image of the collections under `data`, with what its collection says of it (§2.1.1 to §2.1.3).

    `data` is a collection, or holds collections at any depth; each is recognised by its layout and called by its path
    in `data`. With a `sources.toml` only what that names is read, the rest refused. A file takes no part where
    `Candidate.refusal` is set. A candidate whose refusal leaves its class known (view, modality, further findings)
    keeps its label.

    Raises `SourceError` for a folder that is absent, empty or not recognised and for a table that is unreadable, lacks
    columns or has none of its images; `ConfigError` for a sources.toml with an unknown key or value.
    """
    if not data.is_dir():
        received = "a file" if data.exists() else "nothing of that name"
        raise SourceError(f"Expected a folder of X-ray collections at {data}.", received=received)
    folder = data.resolve()
    sources, candidates = _declared(folder) if (folder / declared.FILE_NAME).is_file() else _discovered(folder)
    readings = {source.collection.name: source.layout.read(source.collection, selection) for source in sources}
    for reading in readings.values():
        candidates += reading.candidates
    return Found(
        candidates=sorted(candidates, key=lambda candidate: candidate.source_path),
        missing_files={name: reading.missing_files for name, reading in sorted(readings.items())},
        tables=sorted(table for reading in readings.values() for table in reading.tables),
        synthetic_sources=frozenset(s.collection.name for s in sources if s.layout.synthetic),
        folders=tuple(source.collection.folder for source in sources),
    )


def mark_external(found: Found, names: Names[str]) -> Found:
    """`found` with the images of the sources called `names` in no fold, kept for scoring.

    Raises `SourceError` for a name that no source has, and where nothing would be left to train on.
    """
    present = sorted({candidate.source for candidate in found.candidates} - {LOOSE})
    unknown = [name for name in names if name not in present]
    if unknown:
        raise SourceError(
            f"Expected external sources out of {', '.join(present)}.", received=", ".join(map(repr, unknown))
        )
    moved = [replace(c, role="external") if c.source in names else c for c in found.candidates]
    if names and all(c.role == "external" for c in moved if c.source != LOOSE):
        raise SourceError("Expected at least one source that is not external, to train on.", received="none")
    return replace(found, candidates=moved)


def _declared(data: Path) -> tuple[list[_Source], list[Candidate]]:
    by_name = {layout.name: layout for layout in LAYOUTS}
    sources = []
    for collection, name in declared.read_declared(data):
        layout = by_name[name] if name else _layout_of(collection)
        if layout is None:
            raise _nothing_recognised(collection, data)
        sources.append(_Source(collection, layout))
    return sources, _unnamed(data, [source.collection for source in sources])


def _unnamed(data: Path, named: Sequence[Collection]) -> list[Candidate]:
    """The files of `data` that belong to no source of its sources.toml, nor are a table or that file itself."""
    own = {data / declared.FILE_NAME, *(collection.table for collection in named)}
    files = tuple(file for file in walk(data) if data / file not in own)
    parents = {parent: (data / parent).resolve() for parent in {file.rpartition("/")[0] for file in files}}
    known = {parent: any(path.is_relative_to(c.folder) for c in named) for parent, path in parents.items()}
    rest = Collection(LOOSE, data, tuple(file for file in files if not known[file.rpartition("/")[0]]))
    return [rest.refused(file, "not-listed", f"in no source of {declared.FILE_NAME}") for file in rest.files]


def _discovered(data: Path) -> tuple[list[_Source], list[Candidate]]:
    """The collections of a folder, and its files that lie in none of them."""
    whole = Collection(as_text(data.name), data, walk(data))
    if not whole.files:
        raise SourceError(f"Expected X-ray collections in {data}.", received="a folder without files")
    sources = _sources_in(whole, "")
    if not sources:
        raise _nothing_recognised(whole, data)
    inside = tuple(f"{source.collection.folder.relative_to(data).as_posix()}/" for source in sources)
    if inside == ("./",):
        return sources, []
    rest = Collection(LOOSE, data, tuple(file for file in whole.files if not file.startswith(inside)))
    detail = f"in no collection that is recognised; {declared.FILE_NAME} can name it"
    return sources, [rest.refused(file, "unknown-folder", detail) for file in rest.files]


def _sources_in(collection: Collection, prefix: str) -> list[_Source]:
    """The folder itself where a layout recognises it, else the collections in its folders.

    A table of DICOM files or a folder with a class's name says little beside a published layout further down.
    """
    layout = _layout_of(collection)
    if layout is not None and layout not in _WEAK:
        return [_Source(collection, layout)]
    inner = [source for child in _children(collection, prefix) for source in _sources_in(child, f"{child.name}/")]
    if layout is not None and all(source.layout is class_folder.LAYOUT for source in inner):
        return [_Source(collection, layout)]
    return inner


def _children(collection: Collection, prefix: str) -> Iterator[Collection]:
    files: dict[str, list[str]] = {}
    for file in collection.files:
        folder, slash, rest = file.partition("/")
        if slash:
            files.setdefault(folder, []).append(rest)
    for folder, inside in files.items():
        yield Collection(prefix + as_text(folder), collection.folder / folder, tuple(inside))


def _layout_of(collection: Collection) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.recognises(collection)), None)


def _nothing_recognised(collection: Collection, data: Path) -> SourceError:
    seen = sorted({file.partition("/")[0] + ("/" if "/" in file else "") for file in collection.files})
    more = f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
    layouts = "; ".join(layout.expected for layout in LAYOUTS)
    return SourceError(
        f"{collection.folder}: expected a collection, or folders of collections, in one of these layouts: {layouts}.",
        received=", ".join(as_text(name) for name in seen[:_SHOWN]) + more,
        advice=f"Arrange the images so, or name folder and layout in {data / declared.FILE_NAME}.",
    )
