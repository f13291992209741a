"""Which films a collection has: their patients, names and file formats. Nothing is drawn here."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cxr_platform.intake.phantoms.encode import SUFFIXES, Container
from cxr_platform.intake.phantoms.film import FilmKey
from cxr_platform.labels import CLASSES, class_index

Copy = Literal["re-encoded", "exact"]
Flaw = Literal["low-contrast", "partial", "lateral", "text", "truncated", "multi-frame", "unlisted"]

FLAWS: tuple[Flaw, ...] = ("low-contrast", "partial", "lateral", "text", "truncated", "multi-frame", "unlisted")
FLAWED_SHARE = 0.05
DICOM_SHARE = 0.15
COPY_SHARE = 0.06
OTHER_CONTAINERS: dict[Container, float] = {"png": 0.70, "jpeg": 0.20, "png16": 0.05, "png-rgb": 0.05}
FLAWED_PATIENTS = 1_000_000  # patients of flawed films are numbered from here, apart from all others
_FORMAT, _FLAW = 1_000_000, 2_000_000  # set the random streams below apart from those of drawing


@dataclass(frozen=True)
class PlannedFilm:
    """A film to be drawn, or a copy of `original` under another name."""

    key: FilmKey
    name: str
    patient_id: str
    container: Container
    window: bool
    original: "PlannedFilm | None" = None
    copy: Copy | None = None


@dataclass(frozen=True)
class PlannedFlaw:
    """A file that has to be excluded; `label` is what films.csv says of it."""

    flaw: Flaw
    key: FilmKey
    name: str
    patient_id: str


def plan_films(per_class: int, seed: int) -> list[PlannedFilm]:
    """`per_class` usable films of each class, one to three a patient; film i is the same however many follow it.

    Now and then a patient's last film is the first one saved anew; one film of one class stands a second time, byte
    for byte, under another patient, as happens in public collections.
    """
    return [film for label in CLASSES for film in _films_of(label, per_class, seed)]


def plan_flaws(per_class: int, seed: int) -> list[PlannedFlaw]:
    """About one file in twenty, but each flaw at least once; each round of seven flaws meets each class once."""
    usable = per_class * len(CLASSES)
    count = max(len(FLAWS), round(usable * FLAWED_SHARE / (1 - FLAWED_SHARE)))
    return [_flaw(number, seed) for number in range(count)]


def _films_of(label: str, per_class: int, seed: int) -> list[PlannedFilm]:
    films: list[PlannedFilm] = []
    patient = 0
    while len(films) < per_class:
        films += _patient_films(FilmKey(seed, label, patient, 0), films)
        patient += 1
    return films[:per_class]


def _patient_films(first: FilmKey, earlier: list[PlannedFilm]) -> list[PlannedFilm]:
    rng = np.random.default_rng((first.seed, class_index(first.label), first.patient, _FORMAT))
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25]))
    dicom = rng.random() < DICOM_SHARE
    copied = count > 1 and rng.random() < COPY_SHARE
    films = [_draw_format(first, number, dicom, rng) for number in range(count)]
    if first.patient == 1 and CLASSES[first.seed % len(CLASSES)] == first.label:
        films[0] = _copy(films[0], earlier[0], "exact", earlier[0].container)
    elif copied:
        films[-1] = _copy(films[-1], films[0], "re-encoded", "jpeg")
    return films


def _draw_format(first: FilmKey, number: int, dicom: bool, rng: np.random.Generator) -> PlannedFilm:
    inverted, window = rng.random() < 0.3, rng.random() < 0.5
    plain: Container = list(OTHER_CONTAINERS)[rng.choice(len(OTHER_CONTAINERS), p=list(OTHER_CONTAINERS.values()))]
    digital: Container = "dicom-inverted" if inverted else "dicom"
    key = FilmKey(first.seed, first.label, first.patient, number)
    container = digital if dicom else plain
    patient_id = _patient_id(key)
    return PlannedFilm(key, _name(patient_id, number, SUFFIXES[container]), patient_id, container, window)


def _copy(film: PlannedFilm, original: PlannedFilm, copy: Copy, container: Container) -> PlannedFilm:
    name = _name(film.patient_id, film.key.film, SUFFIXES[container])
    return PlannedFilm(film.key, name, film.patient_id, container, film.window, original, copy)


def _flaw(number: int, seed: int) -> PlannedFlaw:
    turn, place = divmod(number, len(FLAWS))
    order = np.random.default_rng((seed, _FLAW, turn)).permutation(len(CLASSES))
    key = FilmKey(seed, CLASSES[order[place]], FLAWED_PATIENTS + number, 0)
    flaw, patient_id = FLAWS[place], _patient_id(key)
    return PlannedFlaw(flaw, key, _name(patient_id, 0, ".dcm" if flaw == "multi-frame" else ".png"), patient_id)


def _patient_id(key: FilmKey) -> str:
    """Ten hexadecimal digits that tell nothing of the class."""
    text = f"{key.seed}/{key.label}/{key.patient}"
    return "PH" + hashlib.sha256(text.encode()).hexdigest()[:10]


def _name(patient_id: str, number: int, suffix: str) -> str:
    return f"{patient_id}_{number}{suffix}"
