"""Folders named after classes, at any depth: `dataset/train_test/{effusion,normal}/*.png`. No patients, no views."""

from collections.abc import Mapping

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading, as_text
from cxr_platform.intake.vocabulary import class_of, plain

_CONTAINERS = {
    *("train", "training", "test", "testing", "val", "valid", "validation", "train test"),
    *("data", "dataset", "images", "films"),
}
"""Folders that hold the class folders of one collection and are not collections themselves."""
_NO_IMAGES = {"mask", "masks", "annotations", "segmentation", "segmentations", "macosx"}
"""Folders beside or in class folders of published collections that hold something other than images."""


def _recognises(collection: Collection) -> bool:
    def leads_to_class(folder: str) -> bool:
        *containers, last = folder.split("/")
        return class_of(last) is not None and all(plain(name) in _CONTAINERS for name in containers)

    return class_of(collection.folder.name) is not None or any(map(leads_to_class, collection.folders))


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    del selection  # the folder's name is the whole finding
    labels = {plain(name): label for name, label in collection.labels.items()}
    # The collection's own name counts only if it is itself a class folder, not if it holds some.
    has_class_folders = any(_finding_and_class(folder, labels) for folder in collection.folders)
    outer = "" if has_class_folders else f"{collection.folder.name}/"
    known = {folder: _finding_and_class(outer + folder, labels) for folder in collection.folders | {""}}

    def candidate(file: str) -> Candidate:
        folder = file.rpartition("/")[0]
        stated = known[folder]
        if stated is None:
            detail = f"folder {as_text(folder) or '.'} names none of the seven classes"
            return collection.refused(file, "unknown-folder", detail)
        return collection.candidate(file, finding=stated[0], label=stated[1])

    return Reading([candidate(file) for file in collection.files])


def _finding_and_class(folder: str, labels: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the innermost part of `folder` that names a class, and the class; `labels` are further names."""
    for name in reversed(folder.split("/")):
        if plain(name) in _NO_IMAGES:
            return None
        label = labels.get(plain(name)) or class_of(name)
        if label:
            return name, label
    return None


LAYOUT = Layout("class_folder", "a folder per class (covid-19, edema, effusion, …) at any depth", _recognises, _read)
