"""Writing a collection of synthetic images: `phantoms/PHANTOMS.toml`, `images.csv`, and a folder of images."""

import csv
from collections.abc import Callable
from pathlib import Path

from cxr_platform.errors import ConfigError, SourceError
from cxr_platform.intake.layouts.phantoms import IMAGES_FOLDER
from cxr_platform.intake.phantoms.encode import Header, encode, re_encode
from cxr_platform.intake.phantoms.flaws import Row, draw_flaw
from cxr_platform.intake.phantoms.image import draw_image
from cxr_platform.intake.phantoms.plan import PlannedFlaw, PlannedImage, plan_flaws, plan_images
from cxr_platform.storage.files import new_folder, remove_leftovers, write_errors
from cxr_platform.validation import read_toml

VERSION = 1
"""Counts changes of the drawing: collections of another version are drawn again."""
FOLDER, MARKER, TABLE = "phantoms", "PHANTOMS.toml", "images.csv"
COLUMNS = ("filename", "patient_id", "label", "view", "sex", "age")
SMALLEST, LARGEST = 128, 1024

Progress = Callable[[int, int], None]


def write_collection(out: Path, per_class: int, seed: int, size: int = 320, progress: Progress | None = None) -> Path:
    """Write `out`/phantoms with `per_class` usable images of each class and about 5 % that are not; returns the folder.

    `size` is the images' height in pixels. The same arguments give the same bytes. A complete collection of the same
    arguments is left as it is, one of others is replaced once the new one is complete. `progress` is told files
    written and files in all.

    Raises `ConfigError` for arguments out of range, `SourceError` where the folder holds something else than
    phantoms, `StorageError` where it cannot be written.
    """
    _check(per_class, seed, size)
    folder, wanted = out / FOLDER, _parameters(per_class, seed, size)
    with write_errors(folder):
        if not _stands(folder, wanted):
            remove_leftovers(folder)
            with new_folder(folder, MARKER) as partial:
                (partial / IMAGES_FOLDER).mkdir()
                _write(partial, wanted, progress)
    return folder


def _check(per_class: int, seed: int, size: int) -> None:
    rules = (
        (per_class >= 1, "at least 1 image a class", per_class),
        (seed >= 0, "a seed of 0 or more", seed),
        (SMALLEST <= size <= LARGEST, f"a height of {SMALLEST} to {LARGEST} pixels", size),
    )
    for kept, expected, received in rules:
        if not kept:
            raise ConfigError(f"phantoms: expected {expected}.", received=received)


def _parameters(per_class: int, seed: int, size: int) -> dict[str, object]:
    return {"synthetic": True, "version": VERSION, "seed": seed, "per_class": per_class, "size": size}


def _stands(folder: Path, wanted: dict[str, object]) -> bool:
    """Whether the collection asked for is there, whole; `SourceError` if something else is."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    marker = read_toml(folder / MARKER) if (folder / MARKER).is_file() else {}
    if marker.get("synthetic") is not True:
        raise SourceError(
            f"Expected nothing, or synthetic images marked by {MARKER}, at {folder}.",
            received="something else",
            advice="Choose another folder for the phantoms; this one is left as it is.",
        )
    present = {path.name for path in (folder / IMAGES_FOLDER).glob("*")}
    same = all(marker.get(key) == value for key, value in wanted.items())
    return same and len(present) == marker.get("files") and _listed(folder) <= present


def _listed(folder: Path) -> set[str]:
    if not (folder / TABLE).is_file():
        return {""}
    with (folder / TABLE).open(newline="", encoding="utf-8") as table:
        return {row["filename"] for row in csv.DictReader(table)}


def _write(folder: Path, wanted: dict[str, object], progress: Progress | None) -> None:
    per_class, seed, size = (int(str(wanted[key])) for key in ("per_class", "seed", "size"))
    planned: list[PlannedImage | PlannedFlaw] = [*plan_images(per_class, seed), *plan_flaws(per_class, seed)]
    rows = []
    for done, file in enumerate(planned, start=1):
        content, row = draw_flaw(file, size) if isinstance(file, PlannedFlaw) else _draw(file, size)
        (folder / IMAGES_FOLDER / file.name).write_bytes(content)
        rows += [row] if row else []
        if progress:
            progress(done, len(planned))
    _write_table(folder / TABLE, rows)
    (folder / MARKER).write_text(_marker(wanted, len(planned)), encoding="utf-8")


def _draw(image: PlannedImage, size: int) -> tuple[bytes, Row]:
    """The file of an image and its row."""
    source = image.original or image
    drawing = draw_image(source.key, size)
    patient, view = drawing.patient, drawing.position.view
    header = Header(source.patient_id, patient.sex, patient.age, view, source.name, source.window)
    content = (
        re_encode(drawing.picture) if image.copy == "re-encoded" else encode(drawing.picture, image.container, header)
    )
    row = (image.name, image.patient_id, image.key.label, view, patient.sex, str(patient.age))
    return content, dict(zip(COLUMNS, row, strict=True))


def _write_table(path: Path, rows: list[Row]) -> None:
    """Sorted by name, which mixes the classes."""
    with path.open("w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["filename"]))


def _marker(wanted: dict[str, object], files: int) -> str:
    settings = "\n".join(f"{key} = {str(value).lower()}" for key, value in {**wanted, "files": files}.items())
    return (
        "# These images are drawn, not taken: no patient, no diagnosis. Figures on them say nothing of real X-rays.\n"
        f'{settings}\ngenerator = "cxr_platform.intake.phantoms"\n'
    )
