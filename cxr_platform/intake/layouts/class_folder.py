"""A folder a class, at any depth: `dataset/train_test/{effusion,normal}/*.png`. No patients, no views."""

from collections.abc import Mapping

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading, as_text
from cxr_platform.intake.layouts.vocabulary import class_of, plain

_CONTAINERS = {
    *("train", "training", "test", "testing", "val", "valid", "validation", "train test"),
    *("data", "dataset", "images", "films"),
}
"""Folders that hold the class folders of one collection and are no collections themselves."""
_NO_IMAGES = {"mask", "masks", "annotations", "segmentation", "segmentations", "macosx"}
"""Folders beside or in class folders of published sets that hold something else than images."""


def _recognises(collection: Collection) -> bool:
    return class_of(collection.folder.name) is not None or _holds_classes(collection)


def _holds_classes(collection: Collection) -> bool:
    return any(_leads_to_class(folder) for folder in collection.folders)


def _leads_to_class(folder: str) -> bool:
    *containers, last = folder.split("/")
    return class_of(last) is not None and all(plain(name) in _CONTAINERS for name in containers)


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    del selection  # a folder's name is the whole finding
    labels = {plain(name): label for name, label in collection.labels.items()}
    # The collection's own name counts only where it is itself a class folder, not where it holds some.
    inner = any(_class_folder(folder, labels) for folder in collection.folders)
    outer = "" if inner else f"{collection.folder.name}/"
    known = {folder: _class_folder(outer + folder, labels) for folder in collection.folders | {""}}
    return Reading([_candidate(collection, file, known[file.rpartition("/")[0]]) for file in collection.files])


def _candidate(collection: Collection, file: str, known: tuple[str, str] | None) -> Candidate:
    if known is None:
        folder = file.rpartition("/")[0] or "."
        return collection.refused(file, "unknown-folder", f"folder {as_text(folder)} names none of the seven classes")
    finding, label = known
    return collection.candidate(file, label=label, finding=finding)


def _class_folder(folder: str, labels: Mapping[str, str]) -> tuple[str, str] | None:
    """The innermost part of `folder` that names a class, and the class."""
    for name in reversed(folder.split("/")):
        if plain(name) in _NO_IMAGES:
            return None
        label = labels.get(plain(name)) or class_of(name)
        if label:
            return name, label
    return None


LAYOUT = Layout("class_folder", "a folder a class (covid-19, edema, effusion, …) at any depth", _recognises, _read)
