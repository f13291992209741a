"""Folders named after classes, at any depth: `dataset/train_test/{effusion,normal}/*.png`. No views.

Folders below a class folder are patients (`Covid19/P01/1.png`), also in `train`, `fold_1`, … (`Covid19/train/P01`).
Their names have a digit and are no names of portions, views or series. At least half of the folders of the class are
named so, with at most `_IMAGES_PER_PATIENT` files on average; the classes together have at least two such folders. Two
classes with a folder of one name have one patient of that name.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading, as_text
from cxr_platform.intake.vocabulary import class_of, folded, plain

_CONTAINERS = {
    *("train", "training", "test", "testing", "val", "valid", "validation", "train test"),
    *("data", "dataset", "images", "films"),
}
"""Folders that hold the class folders of one collection and are not collections themselves."""
NO_IMAGES = {"mask", "masks", "annotations", "segmentation", "segmentations", "macosx"}
"""Folders beside or in class folders of published collections that hold something other than images."""
_PATIENT = frozenset(
    {
        *("patient", "paciente", "pat", "subject", "sub", "sujeto", "participant", "participante", "case", "caso"),
        *("person", "id", "pid", "p"),
    }
)
"""Words for a patient, with which a folder is one whatever its further words."""
_PORTION = re.compile(
    r"train|training|test|testing|val|valid|validation|batch|lote|parts?|parte|split|fold|subset|set|dataset|portion"
    r"|images?|imgs?|imagenes|films|archive|data|raw|crop(ped|ping)?|augment(ed|ation)?|resized?|size|folder|carpeta"
    r"|jpe?g|png|dicom|dcm|year|ano|version|patients|pacientes|subjects|cases|copy"
)
"""A word for a portion of a class, which may hold folders of patients."""
_NO_PATIENT = re.compile(
    r"group|grupo|series?|study|estudio|exam|session|views?|vista|ap|pa|lat|lateral|level|grade|stage"
)
"""A further word with which a folder is no patient."""
_DATE = re.compile(
    r"(19|20)\d\d([-_. ](0[1-9]|1[0-2]))?"
    r"|(19|20)\d\d(?P<sign>[-_. ]?)(0[1-9]|1[0-2])(?P=sign)(0[1-9]|[12]\d|3[01])"
    r"|v ?[1-9](\.\d+)*|\d+ ?x ?\d+"
)
"""A year, a month, a day, a version or a size in pixels."""
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

    patients = patients_below(known, collection.files, len(outer.split("/")) - 1)

    def candidate(file: str) -> Candidate:
        folder = file.rpartition("/")[0]
        stated = known[folder]
        if stated is None:
            detail = f"folder {as_text(folder) or '.'} names none of the seven classes"
            return collection.refused(file, "unknown-folder", detail)
        return collection.candidate(file, finding=stated[0], label=stated[1], patient=patients.get(folder))

    return Reading([candidate(file) for file in collection.files])


def patients_of_one_class(files: Iterable[str]) -> dict[str, str]:
    """Return folder → patient, as below a class folder, for files that are all of one class."""
    files = list(files)
    return patients_below({file.rpartition("/")[0]: ("", "") for file in files}, files, 1)


def patients_below(
    known: Mapping[str, tuple[str, str] | None], files: Iterable[str], depth_above: int
) -> dict[str, str]:
    """Return folder → patient, for the folders below class folders whose folders look like patients.

    `known` has for each folder the part of it that names the class, and the class. With `depth_above` a folder without
    such a part is below the collection's own, as if that were a class folder.
    """
    below: defaultdict[str, Counter[str]] = defaultdict(Counter)  # class folder → folder in it → number of files
    places = {}
    counts = Counter(file.rpartition("/")[0] for file in files)
    for folder, number in counts.items():
        stated = known[folder]
        if stated is None:
            continue
        parts = folder.split("/") if folder else []
        position = max((i for i, part in enumerate(parts) if part == stated[0]), default=-1 if depth_above else None)
        if position is None:
            continue
        inner = next((part for part in parts[position + 1 :] if not is_portion(part)), None)
        if inner is not None:
            place = "/".join(parts[: position + 1])
            places[folder] = place, inner
            below[place][inner] += number
    named = {place: patients for place, folders in below.items() if (patients := _patient_names(folders))}
    several = len({name for patients in named.values() for name in patients}) > 1
    return {f: name for f, (place, name) in places.items() if several and name in named.get(place, ())}


def _patient_names(folders: Counter[str]) -> set[str]:
    """Return the folders of one class that look like patients; none if most do not."""
    names = {name for name in folders if is_patient(name)}
    images = sum(folders[name] for name in names)
    return names if 2 * len(names) >= len(folders) and images <= _IMAGES_PER_PATIENT * len(names) else set()


def is_patient(name: str) -> bool:
    """Return True for a folder that may be a patient's: it has a digit and is no portion, view, series or date."""
    words = _name_words(name)
    if not re.search(r"\d", name):
        return False
    return not _PATIENT.isdisjoint(words) or not (
        _DATE.fullmatch(folded(name)) or any(_PORTION.fullmatch(word) or _NO_PATIENT.fullmatch(word) for word in words)
    )


def is_portion(name: str) -> bool:
    """Return True for a folder that holds a portion of a class: `train`, `fold_1`, `images_001`, `2020`, `100x100`."""
    words = _name_words(name)
    if not _PATIENT.isdisjoint(words) or any(_NO_PATIENT.fullmatch(word) for word in words):
        return False
    named = plain(name) in _CONTAINERS or any(_PORTION.fullmatch(word) for word in words)
    return named or _DATE.fullmatch(folded(name)) is not None


def _name_words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", folded(name))


def _finding_and_class(folder: str, labels: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the innermost part of `folder` that names a class, and the class; `labels` are further names."""
    for name in reversed(folder.split("/")):
        if plain(name) in NO_IMAGES:
            return None
        label = labels.get(plain(name)) or class_of(name)
        if label:
            return name, label
    return None


LAYOUT = Layout("class_folder", "a folder per class (covid-19, edema, effusion, …) at any depth", _recognises, _read)
