"""Dice coefficients of lung masks against masks drawn by people: folders of both, scores, and a page of results."""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import DecodingConfig
from cxr_platform.domain.interval import Interval
from cxr_platform.domain.study import Hardware
from cxr_platform.errors import ImageRefused, SourceError
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.intake.images import decode
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.models.lung_segmenter import LungWeightsHeader, Masks, Part
from cxr_platform.storage.files import read_errors, write_json
from cxr_platform.training.devices import hardware, package_versions
from cxr_platform.training.lungs import LungImages, letterboxed_mask, masks_of_part
from cxr_platform.validation import Record, parse_record

SIDE = 256
"""Pixels of the letterboxed images that are scored."""
SPLIT_SEED = 13
MASK_MARK = "@"
"""Ends the name of a mask that lies beside its image, as in OpenIST."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", "")
"""Of the files that may be the image of a mask; DICOM objects often have none."""


@dataclass(frozen=True, eq=False)
class MaskedFolder:
    """Letterboxed images (n, SIDE, SIDE) uint8 with masks of `part`, bool, and the patient of each image (n,).

    `sizes` (n, 2) are widths and heights of the files, `digests` (n,) 16 hex digits of their SHA-256.
    """

    part: Part
    pixels: NDArray[np.uint8]
    masks: Masks
    patients: NDArray[np.str_]
    sizes: NDArray[np.int64]
    digests: NDArray[np.str_]

    def take(self, rows: NDArray[np.bool_]) -> "MaskedFolder":
        """Return the images where `rows` (n,) is True."""
        pixels, masks = self.pixels[rows], self.masks[rows]
        return MaskedFolder(self.part, pixels, masks, self.patients[rows], self.sizes[rows], self.digests[rows])

    def for_training(self, size: int) -> LungImages:
        """Return the images and masks in squares of `size` pixels."""
        pixels = np.stack([letterbox(image, size).pixels for image in self.pixels])
        masks = np.stack([letterboxed_mask(mask, size) for mask in self.masks])
        return LungImages(pixels, masks_of_part(masks, self.part))


class LungScore(Record):
    """Dice of one method's masks on one set of images; `not_found` images have no plausible lungs and Dice 0."""

    method: str
    trained_on: tuple[str, ...]
    images: str
    part: Literal["aerated", "whole"]
    count: int
    patients: int
    dice: Interval
    median: float
    tenth_percentile: float
    not_found: int
    left_out_fold: str | None = None


class LungScores(Record):
    """A file of `cxr lungs score`."""

    schema_version: Literal[1] = 1
    hardware: Hardware
    versions: dict[str, str]
    scores: tuple[LungScore, ...]


PAGE = """Written by `cxr lungs page` from the files of

```bash
{commands}
```

Dice is 2 |A ∩ B| / (|A| + |B|), the mean over images; an image in which no plausible lungs were found counts as 0.
Intervals are from a bootstrap over patients. `aerated` means the fields beside heart and diaphragm, `whole` also what
lies behind the heart. Masks are compared with the output of the network that has the same meaning, if it was trained on
masks with that meaning.
"""


def read_masked_folder(
    images: Path, masks: Path, part: Part, patients: tuple[Path, str, str] | None = None
) -> MaskedFolder:
    """Return the images of a folder that have a mask in `masks`: a PNG of the same name, or of that name and "@".

    `patients` is a CSV file with its columns of file name and patient; an image without one is a patient of its own.
    Raise `SourceError` without a pair, for a mask with two images, or for one that cannot be read or has another size
    than its image.
    """
    by_stem: dict[str, list[Path]] = {}
    with read_errors(images):
        for path in sorted(images.iterdir()):
            if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
                by_stem.setdefault(path.stem, []).append(path)
    with read_errors(masks):
        drawn = sorted(path for path in masks.iterdir() if path.suffix.lower() == ".png")
    if masks.resolve() == images.resolve():
        drawn = [path for path in drawn if path.stem.endswith(MASK_MARK)]
    pairs = []
    for mask in drawn:
        found = by_stem.get(mask.stem.removesuffix(MASK_MARK), [])
        if len(found) > 1:
            raise SourceError(
                f"Expected one image for the mask {mask}.",
                received=" and ".join(path.name for path in found),
                advice="Rename or remove the others.",
            )
        pairs += [(image, mask) for image in found]
    if not pairs:
        raise SourceError(
            f"Expected masks in {masks} with the names of images in {images}.",
            received=f"{len(by_stem)} images and {len(drawn)} masks, no pair",
            advice="Name each mask as its image, with the suffix .png, or with @.png beside the image.",
        )
    known = _patients(*patients) if patients else {}
    read = [_read_pair(*pair) for pair in pairs]
    return MaskedFolder(
        part,
        np.stack([pixels for pixels, _, _ in read]),
        np.stack([mask for _, mask, _ in read]),
        np.array([known.get(image.name) or image.name for image, _ in pairs]),
        np.array([size for _, _, size in read]),
        np.array([hashlib.sha256(image.read_bytes()).hexdigest()[:16] for image, _ in pairs]),
    )


def training_rows(folder: MaskedFolder, fold: tuple[int, int]) -> NDArray[np.bool_]:
    """Return True for the images outside `fold`; raise `SourceError` if one of them is in it as well."""
    rows = ~rows_of_fold(folder.patients, *fold)
    if repeated := sorted(set(folder.digests[rows]) & set(folder.digests[~rows])):
        raise SourceError(
            "Expected no image on both sides of the fold.",
            received=f"{len(repeated)} files that are there twice with the same bytes, as different patients",
            advice="Remove the copies, or give --patients a table in which copies are of one patient.",
        )
    return rows


def left_out_rows(folder: MaskedFolder, name: str, header: LungWeightsHeader) -> tuple[NDArray[np.bool_], str | None]:
    """Return True for the images that weights are scored on, and the fold "K/N" that they are, if it was left out.

    These are all images of another set than those trained on, and of a set `name` of which a fold was left out, this
    fold. Raise `SourceError` if images were trained on without the result saying so: in another set, or where the fold
    is no longer the one that was left out.
    """
    trained = np.isin(folder.digests, header.trained_images)
    fold, _, of_set = (header.left_out_fold or "").partition(" of ")
    if of_set == name:
        first, _, last = fold.partition("/")
        rows = rows_of_fold(folder.patients, int(first), int(last))
        if (rows != ~trained).any():
            raise SourceError(
                f"Expected the images and patients of {name} as in training, where fold {fold} was left out.",
                received=f"{int((rows & trained).sum())} of {int(rows.sum())} images of that fold were trained on, and "
                f"{int((~rows & ~trained).sum())} of the other {int((~rows).sum())} were not",
                advice="Give the same --images and --patients as in training, or --name another set, or train again.",
            )
        return rows, fold
    if trained.any() and name not in header.trained_on:
        raise SourceError(
            f"Expected weights that were not trained on images of {name}.",
            received=f"{int(trained.sum())} of its {len(trained)} images were, in {', '.join(header.trained_on)}",
            advice="Give the --name that the images had in training.",
        )
    return np.ones(len(trained), bool), None


def rows_of_fold(patients: NDArray[np.str_], fold: int, folds: int) -> NDArray[np.bool_]:
    """Return True for the images (n,) of the patients in fold `fold` (from 1) of `folds`; always the same ones."""
    names, position = np.unique(patients, return_inverse=True)
    place = np.random.default_rng([SPLIT_SEED, folds]).permutation(len(names)) % folds
    return np.asarray(place[position] == fold - 1)


def dice(predicted: Masks, drawn: Masks) -> NDArray[np.float64]:
    """Return 2 |A ∩ B| / (|A| + |B|) of each pair of masks (n, h, w); 0 if only one has pixels, 1 if none has."""
    both, either = (predicted & drawn).sum(axis=(1, 2)), predicted.sum(axis=(1, 2)) + drawn.sum(axis=(1, 2))
    return np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)


def score(
    predicted: Masks,
    folder: MaskedFolder,
    method: str,
    images: str,
    trained_on: Sequence[str] = (),
    fold: str | None = None,
) -> LungScore:
    """Return the Dice of `predicted` (n, SIDE, SIDE) with an interval by bootstrap over patients."""
    values = dice(predicted, folder.masks)
    bootstrap = Bootstrap(folder.patients)
    means = bootstrap.replicate(lambda weights: weights @ values / weights.sum(axis=1))
    low, high = np.percentile(means, [2.5, 97.5])
    return LungScore(
        method=method,
        trained_on=tuple(trained_on),
        images=images,
        part=folder.part,
        count=len(values),
        patients=bootstrap.groups,
        dice=Interval(float(values.mean()), float(low), float(high), ratio=True),
        median=float(np.median(values)),
        tenth_percentile=float(np.percentile(values, 10)),
        not_found=int((~predicted.any(axis=(1, 2))).sum()),
        left_out_fold=fold,
    )


def write_scores(file: Path, scores: Sequence[LungScore]) -> None:
    """Write the scores as JSON, with the hardware and the versions that they were made with."""
    rows = [one.model_dump(mode="json") for one in scores]
    machine = {"hardware": hardware().model_dump(mode="json"), "versions": package_versions()}
    write_json(file, {"schema_version": 1, **machine, "scores": rows})


def scores_page(files: Sequence[Path], notes: Sequence[str] = ()) -> str:
    """Return a page of Markdown with the scores of files by `write_scores`, and a paragraph for each of `notes`.

    Raise `SourceError` for other files.
    """
    stored = []
    for path in files:
        with read_errors(path):
            stored.append(parse_record(LungScores, path.read_bytes(), str(path), SourceError))
    machines = {(one.hardware.processor or "an unknown processor", tuple(one.versions.items())) for one in stored}
    scores = [score for one in stored for score in one.scores]
    command = "cxr lungs score --images FOLDER --masks FOLDER --part {} --name NAME --json scores.json"
    commands = "\n".join(command.format(part) for part in dict.fromkeys(score.part for score in scores))
    lines = [
        "# Lung masks\n",
        PAGE.replace("{commands}", commands),
        *(f"{note}\n" for note in notes),
        scores_table(scores),
    ]
    for processor, versions in sorted(machines):
        shown = ", ".join(f"{name} {version}" for name, version in versions)
        lines.append(f"Measured on: {processor}. Versions: {shown}.\n")
    return "\n".join(lines)


def scores_table(scores: Sequence[LungScore]) -> str:
    """Return the scores as a Markdown table."""
    head = (
        "| masks by | images | lung | images (patients) | Dice, 95 % interval | median | 10th percentile | none found |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for one in scores:
        fold = f", fold {one.left_out_fold} left out of training" if one.left_out_fold else ""
        counts = f"{one.count} ({one.patients})"
        interval = f"**{one.dice.value:.3f}** ({one.dice.low:.3f} to {one.dice.high:.3f})"
        ends = f"{one.median:.3f} | {one.tenth_percentile:.3f} | {one.not_found}"
        lines.append(f"| {one.method}{fold} | {one.images} | {one.part} | {counts} | {interval} | {ends} |")
    return "\n".join(lines) + "\n"


def _patients(table: Path, file_column: str, patient_column: str) -> Mapping[str, str]:
    with read_errors(table), table.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        missing = [name for name in (file_column, patient_column) if name not in (rows.fieldnames or ())]
        if missing:
            raise SourceError(f"Expected the columns {file_column} and {patient_column} in {table}.", received=missing)
        return {row[file_column]: row[patient_column] for row in rows if row[patient_column]}


def _read_pair(image: Path, mask: Path) -> tuple[NDArray[np.uint8], Masks, tuple[int, int]]:
    values = []
    for path in (image, mask):
        try:
            with read_errors(path):
                values.append(decode(path.read_bytes(), DecodingConfig()).values)
        except ImageRefused as refused:
            raise SourceError(f"Expected an image at {path}.", received=refused) from refused
    picture, drawn = values
    if picture.shape != drawn.shape:
        raise SourceError(
            f"Expected a mask of {picture.shape[1]} × {picture.shape[0]} pixels at {mask}, as its image has.",
            received=f"{drawn.shape[1]} × {drawn.shape[0]} pixels",
        )
    sides = (picture.shape[1], picture.shape[0])
    return letterbox(picture, SIDE).pixels, letterboxed_mask(drawn > 127, SIDE), sides
