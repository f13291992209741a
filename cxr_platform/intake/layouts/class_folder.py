"""Folders named after classes, at any depth: `dataset/train_test/{effusion,normal}/*.png`. No views.

Folders directly below a class folder are patients (`Covid19/P01/1.png`) if there are at least two, each name has a
digit and none of the words of `_NO_PATIENTS`, and they hold at most `_IMAGES_PER_PATIENT` files on average. Two
classes with a folder of one name have one patient of that name.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

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
_NO_PATIENTS = re.compile(
    r"(train|test|val|batch|part|split|fold|set|images?|films|group|series|study|archive|data|raw|crop|augment|resized|view"
    r"|ap|pa|jpe?g|png|dicom|level|grade|year|version|v\d|19\d\d|20\d\d)",
    re.IGNORECASE,
)
"""Words with which the name of a folder begins that holds a portion of a class, not a patient."""
_IMAGES_PER_PATIENT = 20


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

    patients = _patients(known, collection.files, len(outer.split("/")) - 1)

    def candidate(file: str) -> Candidate:
        folder = file.rpartition("/")[0]
        stated = known[folder]
        if stated is None:
            detail = f"folder {as_text(folder) or '.'} names none of the seven classes"
            return collection.refused(file, "unknown-folder", detail)
        return collection.candidate(file, finding=stated[0], label=stated[1], patient=patients.get(folder))

    return Reading([candidate(file) for file in collection.files])


def _patients(known: Mapping[str, tuple[str, str] | None], files: Iterable[str], depth_above: int) -> dict[str, str]:
    """Return folder → patient, for the folders below class folders whose folders look like patients."""
    below: defaultdict[str, Counter[str]] = defaultdict(Counter)  # class folder → folder in it → number of files
    places = {}
    counts = Counter(file.rpartition("/")[0] for file in files)
    for folder, number in counts.items():
        stated = known[folder]
        if stated is None:
            continue
        parts = folder.split("/") if folder else []
        position = max((i for i, part in enumerate(parts) if part == stated[0]), default=-1 if depth_above else None)
        if position is not None and position + 1 < len(parts):
            place = "/".join(parts[: position + 1])
            places[folder] = place, parts[position + 1]
            below[place][parts[position + 1]] += number
    return {folder: name for folder, (place, name) in places.items() if _look_like_patients(below[place])}


def _look_like_patients(folders: Counter[str]) -> bool:
    named = all(re.search(r"\d", name) and not _NO_PATIENTS.match(name) for name in folders)
    return named and len(folders) > 1 and folders.total() <= _IMAGES_PER_PATIENT * len(folders)


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
