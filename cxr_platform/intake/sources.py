"""The files of a data folder: which collections it holds, and what these state about every file. No image is opened."""

from collections import Counter
from collections.abc import Collection as Names
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts import (
    class_folder,
    cohen,
    dicom,
    kermany,
    nih,
    outside,
    phantoms,
    public_collections,
    sources_toml,
)
from cxr_platform.intake.layouts.collection import Collection, Layout, as_text, source_toml, walk
from cxr_platform.intake.layouts.reader_labels import with_reader_labels
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

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
"""The source of files that lie in the data folder but in none of its collections."""


@dataclass(frozen=True)
class Inventory:
    """Every file of a data folder, as a candidate or as one of the `tables` that were read (`SOURCE/relative/path`).

    `candidates` are sorted by `source_path`. `missing_files` counts, per source, the rows of its table without a file;
    `ignored_columns` are, per source, the columns of its table that are not understood.
    `synthetic_sources` are those whose images were drawn by a program. `folders` are the absolute folders of the
    sources. `origins` has the hospital or publication of those sources of which it is stated.
    """

    candidates: list[Candidate]
    missing_files: dict[str, int] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    ignored_columns: dict[str, list[str]] = field(default_factory=dict)
    synthetic_sources: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Source:
    collection: Collection
    layout: Layout


def find_candidates(data: Path, selection: SelectionConfig, outside_names: Names[str] = ()) -> Inventory:
    """List the files of the collections under `data`, with what each collection states about them (§2.1.1 to §2.1.3).

    `data` is a collection, or holds collections at any depth; each is recognised by its layout, or as one of
    `public_collections`, and named after its path in `data`. If there is a `sources.toml`, only the folders that it
    names are read, and other files are refused. A candidate with a refusal is not used; it keeps its label if its class
    is known all the same (view, modality, further findings).

    `outside_names` are sources (folders of `data`, or `data` itself) whose images are of none of the seven classes, in
    addition to those that a sources.toml marks; any folder of images may be one.

    Raises `SourceError` for a folder that is absent, empty or not recognised and for a table that is unreadable, lacks
    columns or has none of its images; `ConfigError` for a sources.toml with an unknown key or value.
    """
    if not data.is_dir():
        received = "a file" if data.exists() else "nothing of that name"
        raise SourceError(f"Expected a folder of X-ray collections at {data}.", received=received)
    folder = data.resolve()
    has_declaration = (folder / sources_toml.FILE_NAME).is_file()
    find_sources = _declared_sources if has_declaration else _recognised_sources
    sources, candidates = find_sources(folder, outside_names)
    readings = {source.collection.name: source.layout.read(source.collection, selection) for source in sources}
    tables = [table for reading in readings.values() for table in reading.tables]
    for source in sources:
        collection = source.collection
        images = list(map(partial(_only_images, collection), readings[collection.name].candidates))
        if collection.readers:
            tables += [c.source_path for c in images if c.path == collection.readers.path]
            images = [c for c in images if c.path != collection.readers.path]
        candidates += _outside_images(collection, images) or with_reader_labels(collection, images)
    return Inventory(
        candidates=sorted(candidates, key=lambda candidate: candidate.source_path),
        missing_files={name: reading.missing_files for name, reading in sorted(readings.items())},
        ignored_columns={name: reading.ignored_columns for name, reading in sorted(readings.items())},
        tables=sorted(tables),
        synthetic_sources=frozenset(s.collection.name for s in sources if s.layout.synthetic),
        folders=tuple(source.collection.folder for source in sources),
        origins={s.collection.name: s.collection.origin for s in sources if s.collection.origin},
    )


def _only_images(collection: Collection, candidate: Candidate) -> Candidate:
    """Return `candidate`, refused if its file fits none of the patterns of the collection."""
    file = candidate.path.relative_to(collection.folder).as_posix()
    if collection.is_image(file):
        return candidate
    return collection.refused(file, "not-listed", f"none of the files {', '.join(collection.patterns)}")


def _outside_images(collection: Collection, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates of an outside `collection`, without class; empty for any other collection.

    Raises `SourceError` if none is usable.
    """
    if collection.role != "outside":
        return []
    images = list(map(outside.outside_candidate, candidates))
    if all(image.refusal for image in images):
        reasons = Counter(image.refusal.detail for image in images if image.refusal)
        raise SourceError(
            f"Expected images of none of the seven classes in {collection.folder}, the outside source "
            f"{collection.name}.",
            received=", ".join(f"{number} with {detail}" for detail, number in reasons.most_common(_SHOWN)),
            advice="Name another folder, or take part of the study with these images.",
        )
    return images


def mark_external(inventory: Inventory, names: Names[str]) -> Inventory:
    """Return `inventory` with the images of the sources called `names` as external: in no fold, kept for scoring.

    Raises `SourceError` for a name that no source has or that is outside, and if no source is left for training.
    """
    present = sorted({candidate.source for candidate in inventory.candidates} - {LOOSE})
    unknown = [name for name in names if name not in present]
    if unknown:
        raise SourceError(
            f"Expected external sources out of {', '.join(present)}.", received=", ".join(map(repr, unknown))
        )
    if both := sorted({c.source for c in inventory.candidates if c.role == "outside"}.intersection(names)):
        raise _both_roles(both)
    marked = [replace(c, role="external") if c.source in names else c for c in inventory.candidates]
    named = names or any(c.role == "outside" for c in marked)
    if named and all(c.role in ("external", "outside") for c in marked if c.source != LOOSE):
        raise SourceError("Expected at least one source that is not external, to train on.", received="none")
    return replace(inventory, candidates=marked)


def _both_roles(names: Sequence[str]) -> SourceError:
    return SourceError("Expected each source to be external or outside.", received=f"{', '.join(names)} as both")


def mark_contrast(inventory: Inventory, selection: SelectionConfig) -> Inventory:
    """Return `inventory` with images of another finding than the seven classes as contrast images.

    They are of sources that have images of the study, with `selection.contrast = "covid19"` images of Covid19.
    """
    wanted = (POSITIVE_CLASS,) if selection.contrast == "covid19" else CLASSES
    study = [c for c in inventory.candidates if c.role == "study"]
    sources = {c.source for c in study if c.refusal is None and c.label in wanted and selection.contrast != "none"}

    def marked(candidate: Candidate) -> Candidate:
        is_contrast = candidate.other_finding and candidate.role == "study" and candidate.source in sources
        return replace(candidate, role="contrast", refusal=None) if is_contrast else candidate

    return replace(inventory, candidates=[marked(candidate) for candidate in inventory.candidates])


def _declared_sources(data: Path, outside_names: Names[str]) -> tuple[list[_Source], list[Candidate]]:
    """Return the sources of `data`'s sources.toml, and the files of `data` that belong to none of them."""
    layouts = {layout.name: layout for layout in LAYOUTS}
    declared = sources_toml.read_sources_toml(data)
    if unknown := sorted(set(outside_names) - {collection.name for collection, _ in declared}):
        raise _unknown_outside(unknown, f"the sources {', '.join(collection.name for collection, _ in declared)}")
    sources = []
    for collection, name in declared:
        if collection.role == "external" and collection.name in outside_names:
            raise _both_roles([collection.name])
        if collection.role == "outside" or collection.name in outside_names:
            sources.append(_outside_source(collection, name))
            continue
        stated = _Source(public_collections.completed(collection), layouts[name]) if name else None
        source = stated or _recognised(collection)
        if source is None:
            raise _not_recognised(collection, data)
        sources.append(source)
    collections = [source.collection for source in sources]
    own = {data / sources_toml.FILE_NAME, *(collection.table for collection in collections)}
    own |= {collection.readers.path for collection in collections if collection.readers}
    files = tuple(file for file in walk(data) if data / file not in own)
    parents = {parent: (data / parent).resolve() for parent in {file.rpartition("/")[0] for file in files}}
    inside = {parent for parent, path in parents.items() if any(path.is_relative_to(c.folder) for c in collections)}
    rest = [file for file in files if file.rpartition("/")[0] not in inside]
    return sources, _loose(data, rest, "not-listed", f"in no source of {sources_toml.FILE_NAME}")


def _recognised_sources(data: Path, outside_names: Names[str]) -> tuple[list[_Source], list[Candidate]]:
    """Return the collections that a layout recognises in `data`, and the files that lie in none of them."""
    whole = Collection(as_text(data.name), data, walk(data))
    if not whole.files:
        raise SourceError(f"Expected X-ray collections in {data}.", received="a folder without files")
    if set(outside_names) == {whole.name}:
        return [_outside_source(whole, None)], []
    _check_apart(outside_names)
    set_apart = [_folder_of(whole, name) for name in sorted(set(outside_names))]
    taken = tuple(f"{folder.name}/" for folder in set_apart)
    studied = replace(whole, files=tuple(file for file in whole.files if not as_text(file).startswith(taken)))
    sources = _sources_in(studied, "")
    if not sources and (studied.files or not set_apart):
        raise _not_recognised(studied, data)
    sources += [_outside_source(folder, None) for folder in set_apart]
    inside = tuple(f"{source.collection.folder.relative_to(data).as_posix()}/" for source in sources)
    rest = [] if "./" in inside else [file for file in whole.files if not file.startswith(inside)]
    detail = f"in no collection that is recognised; {sources_toml.FILE_NAME} can name it"
    return sources, _loose(data, rest, "unknown-folder", detail)


def _folder_of(whole: Collection, name: str) -> Collection:
    """Return the folder `name` (a path in `whole`) as a collection; raise `SourceError` if there is none."""
    inside = [file for file in whole.files if as_text(file).startswith(f"{name}/")]
    if not inside:
        raise _unknown_outside([name], f"the folders of {whole.folder}")
    depth = name.count("/") + 1
    folder = whole.folder.joinpath(*inside[0].split("/")[:depth])
    return Collection(name, folder, tuple(file.split("/", depth)[depth] for file in inside))


def _check_apart(names: Names[str]) -> None:
    nested = [(one, other) for one in names for other in names if one.startswith(f"{other}/")]
    if nested:
        raise SourceError(
            "Expected outside sources of which none lies in another.", received=" in ".join(map(repr, nested[0]))
        )


def _unknown_outside(names: Sequence[str], known: str) -> SourceError:
    return SourceError(f"Expected outside sources out of {known}.", received=", ".join(map(repr, names)))


def _outside_source(collection: Collection, layout: str | None) -> _Source:
    """Return `collection` as one of images outside the classes, with the layout whose table states findings, if any."""
    collection = replace(collection, role="outside")
    if layout is None and collection.table is None:
        known = _recognised(collection)
        if known and (known.layout in (nih.LAYOUT, cohen.LAYOUT) or known.collection.label):
            return replace(known, collection=replace(known.collection, readers=None))
    with_table = {"nih": nih.LAYOUT, "cohen": cohen.LAYOUT}
    return _Source(collection, with_table.get(layout or "", outside.LAYOUT))


def _loose(data: Path, files: Sequence[str], reason: str, detail: str) -> list[Candidate]:
    collection = Collection(LOOSE, data, tuple(files))
    return [collection.refused(file, reason, detail) for file in files]


def _sources_in(collection: Collection, prefix: str) -> list[_Source]:
    """Return the folder itself if a layout recognises it, else the collections in its folders.

    The weak layouts (a table of DICOM files, folders named after classes) apply only if no published layout is further
    down.
    """
    whole = _recognised(collection)
    if whole is not None and (whole.layout not in _WEAK or whole.collection is not collection):
        return [whole]
    inner = [source for child in _children(collection, prefix) for source in _sources_in(child, f"{child.name}/")]
    if whole is not None and all(source.layout is class_folder.LAYOUT for source in inner):
        return [whole]
    return inner


def _children(collection: Collection, prefix: str) -> Iterator[Collection]:
    files: dict[str, list[str]] = {}
    for file in collection.files:
        folder, slash, rest = file.partition("/")
        if slash:
            files.setdefault(folder, []).append(rest)
    for folder, inside in files.items():
        yield Collection(prefix + as_text(folder), collection.folder / folder, tuple(inside))


def _recognised(collection: Collection) -> _Source | None:
    """Return `collection` with its layout; a public collection has another than the one it was called with."""
    if known := public_collections.described(collection):
        public, name = known
        return _Source(public, next(layout for layout in LAYOUTS if layout.name == name))
    layout = next((layout for layout in LAYOUTS if layout.recognises(collection)), None)
    return None if layout is None else _Source(collection, layout)


def _not_recognised(collection: Collection, data: Path) -> SourceError:
    entries = sorted({file.partition("/")[0] + ("/" if "/" in file else "") for file in collection.files})
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    layouts = "; ".join(layout.expected for layout in LAYOUTS)
    advice = f"Arrange the images accordingly, or name folder and layout in {data / sources_toml.FILE_NAME}."
    if dicom.has_table(collection) and not collection.declared:
        advice = (
            "A CSV is read with images of any format if it has a column for the file (filename, image, path) and one "
            "for the finding (label, finding), or one of 0 and 1 for each finding (Pneumonia, Edema, …). "
            f"Write into {data / sources_toml.FILE_NAME}:\n"
            f"{source_toml(collection, layout='dicom')}"
        )
    return SourceError(
        f"{collection.folder}: expected a collection, or folders of collections, in one of these layouts: {layouts}.",
        received=", ".join(as_text(name) for name in entries[:_SHOWN]) + more,
        advice=advice,
    )
