"""Write a collection of synthetic images: `phantoms/PHANTOMS.toml`, `images.csv`, and a folder of images."""

import csv
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

from cxr_platform.config import Count, Range, Settings
from cxr_platform.errors import SourceError
from cxr_platform.intake.layouts.csv_rows import MetadataRow
from cxr_platform.intake.layouts.phantoms import COLUMNS, IMAGES_FOLDER, MARKER, TABLE
from cxr_platform.intake.phantoms.files import draw_file, draw_flaw
from cxr_platform.intake.phantoms.plan import PlannedFlaw, PlannedImage, plan_flaws, plan_images
from cxr_platform.progress import NoProgress, Progress
from cxr_platform.storage.files import new_folder, remove_leftovers, write_errors
from cxr_platform.validation import read_toml, validate

VERSION = 1
"""Version of the drawing: a collection of another version is drawn again."""
FOLDER = "phantoms"
TASK = "Drawing synthetic images"
FILES_PER_PROCESS, AT_ONCE = 200, 16
"""Files from which on another process draws, each so many at a time: with fewer, starting one takes longer."""


@dataclass(frozen=True)
class CollectionSettings(Settings):
    """What determines the bytes of a collection; `size` is the height of the images in pixels."""

    seed: Annotated[int, Range(ge=0)]
    per_class: Count
    size: Annotated[int, Range(ge=128, le=1024)]


def write_collection(out: Path, per_class: int, seed: int, size: int = 320, progress: Progress | None = None) -> Path:
    """Write `out`/phantoms with `per_class` usable images of each class and about 5 % flawed files; return the folder.

    The same arguments give the same bytes. A complete collection of the same arguments is kept; one of other arguments
    is replaced after the new one is complete. `progress` receives the number of files written.

    Raises `ConfigError` for arguments out of range, `SourceError` if the folder holds something other than phantoms,
    `StorageError` if it cannot be written.
    """
    settings = validate(CollectionSettings, {"seed": seed, "per_class": per_class, "size": size}, "phantoms")
    folder, marker = out / FOLDER, {"synthetic": True, "version": VERSION, **asdict(settings)}
    with write_errors(folder):
        if not _is_complete(folder, marker):
            remove_leftovers(folder)
            with new_folder(folder, MARKER) as partial:
                _write(partial, settings, marker, progress or NoProgress())
    return folder


def _is_complete(folder: Path, expected: dict[str, Any]) -> bool:
    """Return True if all files of the expected collection exist; raise `SourceError` for a folder of other files."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    marker = read_toml(folder / MARKER) if (folder / MARKER).is_file() else {}
    if marker.get("synthetic") is not True:
        raise SourceError(
            f"Expected nothing, or synthetic images marked by {MARKER}, at {folder}.",
            received="something else",
            advice="Choose another folder for the phantoms; this one is left as it is.",
        )
    if any(marker.get(key) != value for key, value in expected.items()) or not (folder / TABLE).is_file():
        return False
    with (folder / TABLE).open(newline="", encoding="utf-8") as table:
        listed = {row["filename"] for row in csv.DictReader(table)}
    present = {path.name for path in (folder / IMAGES_FOLDER).glob("*")}
    return len(present) == marker.get("files") and listed <= present


def _draw(size: int, file: PlannedImage | PlannedFlaw) -> tuple[bytes, MetadataRow | None]:
    return draw_flaw(file, size) if isinstance(file, PlannedFlaw) else draw_file(file, size)


@contextmanager
def _map(files: int) -> Iterator[Callable[..., Iterator[tuple[bytes, MetadataRow | None]]]]:
    """Yield `map`, or for many files one that uses several processes and gives the same results in the same order."""
    if files < FILES_PER_PROCESS:
        yield map
        return
    processes = min(os.cpu_count() or 1, files // FILES_PER_PROCESS + 1)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=AT_ONCE)


def _write(folder: Path, settings: CollectionSettings, marker: dict[str, Any], progress: Progress) -> None:
    planned: list[PlannedImage | PlannedFlaw] = [
        *plan_images(settings.per_class, settings.seed),
        *plan_flaws(settings.per_class, settings.seed),
    ]
    rows: list[MetadataRow] = []
    (folder / IMAGES_FOLDER).mkdir()
    with _map(len(planned)) as map_:
        drawn = map_(partial(_draw, settings.size), planned)
        for done, (file, (content, row)) in enumerate(zip(planned, drawn, strict=True), start=1):
            (folder / IMAGES_FOLDER / file.name).write_bytes(content)
            rows += [row] if row else []
            progress.step(TASK, done, len(planned))
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["filename"]))  # by name, which mixes the classes
    lines = "\n".join(f"{key} = {str(value).lower()}" for key, value in {**marker, "files": len(planned)}.items())
    (folder / MARKER).write_text(
        "# These images are drawn, not taken: no patient, no diagnosis. Results on them do not apply to real X-rays.\n"
        f'{lines}\ngenerator = "cxr_platform.intake.phantoms"\n',
        encoding="utf-8",
    )
