"""Plan the files of a collection: images with their patients, names and formats, and flawed files; draws nothing."""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cxr_platform.intake.phantoms.image import ImageKey
from cxr_platform.labels import CLASSES, class_index

Container = Literal["png", "png16", "png-rgb", "jpeg", "dicom", "dicom-inverted"]
Copy = Literal["re-encoded", "exact"]
Flaw = Literal["low-contrast", "partial", "lateral", "text", "truncated", "multi-frame", "unlisted"]

SUFFIXES: dict[Container, str] = {
    "png": ".png", "png16": ".png", "png-rgb": ".png", "jpeg": ".jpg", "dicom": ".dcm", "dicom-inverted": ".dcm",
}  # fmt: skip
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
FLAWED_SHARE = 0.05
DICOM_SHARE = 0.15
COPY_SHARE = 0.06
OTHER_CONTAINERS: dict[Container, float] = {"png": 0.70, "jpeg": 0.20, "png16": 0.05, "png-rgb": 0.05}
FLAWED_PATIENTS = 1_000_000  # patients of flawed images are numbered from here, apart from all others
_FORMAT, _FLAW = 1_000_000, 2_000_000  # set the random streams below apart from those of drawing


@dataclass(frozen=True)
class PlannedImage:
    """An image to be drawn, or a copy of `original` under another name."""

    key: ImageKey
    name: str
    patient_id: str
    container: Container
    window: bool
    original: "PlannedImage | None" = None
    copy: Copy | None = None


@dataclass(frozen=True)
class PlannedFlaw:
    """A file that intake must exclude for `flaw`; images.csv lists it under the label of `key`."""

    flaw: Flaw
    key: ImageKey
    name: str
    patient_id: str


def plan_images(per_class: int, seed: int) -> list[PlannedImage]:
    """Plan `per_class` usable images of each class, one to three per patient; a larger plan begins with a smaller one.

    Some patients' last image is a re-encoded copy of the first one. One image of one class is repeated, byte for byte,
    under another patient, as happens in public collections.
    """
    return [image for label in CLASSES for image in _images_of(label, per_class, seed)]


def plan_flaws(per_class: int, seed: int) -> list[PlannedFlaw]:
    """Plan about one flawed file in twenty, each flaw at least once; each round of seven flaws has each class once."""
    usable = per_class * len(CLASSES)
    count = max(len(FLAWS), round(usable * FLAWED_SHARE / (1 - FLAWED_SHARE)))
    return [_flaw(number, seed) for number in range(count)]


def _images_of(label: str, per_class: int, seed: int) -> list[PlannedImage]:
    images: list[PlannedImage] = []
    patient = 0
    while len(images) < per_class:
        images += _patient_images(ImageKey(seed, label, patient, 0), images)
        patient += 1
    return images[:per_class]


def _patient_images(first: ImageKey, earlier: list[PlannedImage]) -> list[PlannedImage]:
    rng = np.random.default_rng((first.seed, class_index(first.label), first.patient, _FORMAT))
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25]))
    dicom = rng.random() < DICOM_SHARE
    copied = count > 1 and rng.random() < COPY_SHARE
    images = [_draw_format(first, number, dicom, rng) for number in range(count)]
    if first.patient == 1 and CLASSES[first.seed % len(CLASSES)] == first.label:
        images[0] = _copy(images[0], earlier[0], "exact", earlier[0].container)
    elif copied:
        images[-1] = _copy(images[-1], images[0], "re-encoded", "jpeg")
    return images


def _draw_format(first: ImageKey, number: int, dicom: bool, rng: np.random.Generator) -> PlannedImage:
    inverted, window = rng.random() < 0.3, rng.random() < 0.5
    plain: Container = list(OTHER_CONTAINERS)[rng.choice(len(OTHER_CONTAINERS), p=list(OTHER_CONTAINERS.values()))]
    digital: Container = "dicom-inverted" if inverted else "dicom"
    key = ImageKey(first.seed, first.label, first.patient, number)
    container = digital if dicom else plain
    patient_id = _patient_id(key)
    return PlannedImage(key, _name(patient_id, number, SUFFIXES[container]), patient_id, container, window)


def _copy(image: PlannedImage, original: PlannedImage, copy: Copy, container: Container) -> PlannedImage:
    name = _name(image.patient_id, image.key.image, SUFFIXES[container])
    return PlannedImage(image.key, name, image.patient_id, container, image.window, original, copy)


def _flaw(number: int, seed: int) -> PlannedFlaw:
    turn, place = divmod(number, len(FLAWS))
    order = np.random.default_rng((seed, _FLAW, turn)).permutation(len(CLASSES))
    key = ImageKey(seed, CLASSES[order[place]], FLAWED_PATIENTS + number, 0)
    flaw, patient_id = FLAWS[place], _patient_id(key)
    return PlannedFlaw(flaw, key, _name(patient_id, 0, ".dcm" if flaw == "multi-frame" else ".png"), patient_id)


def _patient_id(key: ImageKey) -> str:
    """Return PH and ten hexadecimal digits that do not reveal the class."""
    text = f"{key.seed}/{key.label}/{key.patient}"
    return "PH" + hashlib.sha256(text.encode()).hexdigest()[:10]


def _name(patient_id: str, number: int, suffix: str) -> str:
    return f"{patient_id}_{number}{suffix}"
