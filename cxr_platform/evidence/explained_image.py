"""Explanation of one image: of the study by the network that tests it, of another by the networks of all folds."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import ImageRefused, StorageError, StudyError
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.explanations import explain_rows, images_of, lung_shares, lungs_of
from cxr_platform.evidence.fold_networks import fold_networks
from cxr_platform.evidence.lung_regions import lung_regions, sides
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.explain.saliency import check_has_heatmaps, heatmaps
from cxr_platform.intake.candidate import REASONS
from cxr_platform.intake.eligibility import judge_image
from cxr_platform.intake.images import ChestImage, read_image
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.labels import CLASSES
from cxr_platform.training.trial import predict_images


@dataclass(frozen=True)
class ExplainedImage:
    """An `image` (S, S) uint8 as the network gets it, and its probabilities (7,).

    `heat` (side, side) is the heatmap of the predicted class, `lungs` (S, S) bool, `share` the share of heat in
    them (NaN for an empty map). `label`, `source` and `fold` are `None` for an image that is not of the study.
    """

    name: str
    image: Array
    heat: Array
    lungs: Array
    share: float
    probabilities: Array
    label: str | None = None
    source: str | None = None
    fold: int | None = None


def explain_image(opened: OpenStudy, image: str, strategy: str) -> ExplainedImage:
    """Explain `image`, an image_id of the study or the path of a PNG, JPEG or DICOM file.

    A file with the bytes of an image of the study is explained as that image. Raise `StudyError` for an unknown
    strategy or image, `StorageError` for a file that cannot be read, `ImageRefused` for one that is not an image or
    that the study's manifest would exclude, `NotPossible` for `robust`, which has no heatmaps.
    """
    predictions = opened.predictions
    if strategy not in predictions.probability:
        known = ", ".join(predictions.probability)
        raise StudyError(f"Expected a strategy of the study: {known}.", received=repr(strategy))
    check_has_heatmaps(strategy_by_name(strategy))
    rows = np.flatnonzero(predictions.image_id == image)
    if len(rows):
        return _of_study(opened, int(rows[0]), strategy)
    if not Path(image).is_file():
        raise StudyError(
            f"Expected the path of an image, or an image_id out of the {len(predictions.image_id):,} study images.",
            received=repr(image),
            advice="predictions.parquet of the study lists them, without external images.",
        )
    return _of_file(opened, Path(image), strategy)


def _of_study(opened: OpenStudy, row: int, strategy: str) -> ExplainedImage:
    predictions, rows = opened.predictions, np.array([row])
    (part,) = explain_rows(opened, strategy, rows)
    (image,), lungs = images_of(opened, rows), lungs_of(opened, rows).masks
    return ExplainedImage(
        name=str(predictions.image_id[row]),
        image=image,
        heat=part.maps[0],
        lungs=lungs[0],
        share=float(lung_shares(part.maps, lungs, *sides(opened, predictions.image_id[rows]))[0][0]),
        probabilities=predictions.probability[strategy][row],
        label=CLASSES[predictions.label[row]],
        source=str(predictions.source[row]),
        fold=part.fold,
    )


def _of_file(opened: OpenStudy, path: Path, strategy: str) -> ExplainedImage:
    data = _read(path)
    known = _row_of(opened, hashlib.sha256(data).hexdigest())
    if known is not None:
        return _of_study(opened, known, strategy)
    intake = opened.manifest.info.config
    try:
        read = read_image(data, intake)
    except ImageRefused as refused:
        raise ImageRefused(refused.reason, f"{path}: {refused.detail}") from refused
    if refusal := judge_image(read, intake):
        raise ImageRefused(refusal.reason, f"{path}: {REASONS[refusal.reason]} ({refusal.detail})")
    return _other_image(opened, str(path), read, strategy)


def _other_image(opened: OpenStudy, name: str, read: ChestImage, strategy: str) -> ExplainedImage:
    """Return the mean of the folds' probabilities, and of their heatmaps of the predicted class, scaled to 1."""
    images = resize_images(read.pixels[None], opened.profile.model.input_size)
    widths, heights = np.array([read.width]), np.array([read.height])
    answers = [predict_images(network, images)[0] for _, network in fold_networks(opened, strategy)]
    probabilities = np.mean(answers, axis=0)
    target = probabilities.argmax(keepdims=True)
    maps = np.mean([heatmaps(network, images, target) for _, network in fold_networks(opened, strategy)], axis=0)
    maps = maps / max(float(maps.max()), np.finfo("float32").tiny)
    lungs = lung_regions(images, widths, heights).masks
    return ExplainedImage(
        name=name,
        image=images[0],
        heat=maps[0],
        lungs=lungs[0],
        share=float(lung_shares(maps, lungs, widths, heights)[0][0]),
        probabilities=probabilities,
    )


def _row_of(opened: OpenStudy, sha256: str) -> int | None:
    """Return the row in the predictions of the image with these bytes."""
    table = opened.manifest.table(["image_id", "file_sha256"])
    known = dict(zip(table["file_sha256"].to_pylist(), table["image_id"].to_pylist(), strict=True))
    rows = np.flatnonzero(opened.predictions.image_id == known.get(sha256, ""))
    return int(rows[0]) if len(rows) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"Expected a readable image at {path}.", received=error.strerror) from error
