"""One image explained: one of the study by the network that has not seen it, another by those of all folds."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr_platform.errors import ImageRefused, StorageError, StudyError
from cxr_platform.evidence.explanations import explain_rows, images_of, lung_shares, sides
from cxr_platform.evidence.networks import fold_networks, predict_images
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.explain.lung_field import lung_fields
from cxr_platform.explain.saliency import heatmaps
from cxr_platform.intake.images import ChestImage, read_image
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.labels import CLASSES


@dataclass(frozen=True)
class ImageExplained:
    """One image (S, S) uint8 as the network saw it, its heatmap (side, side) for the predicted class, its lung field
    (S, S) bool, the share of the heatmap in it (NaN for an empty one), and the probabilities (7,).

    `label`, `source` and `fold` are of an image of the study; `None` for another one.
    """

    name: str
    image: np.ndarray
    heat: np.ndarray
    field: np.ndarray
    share: float
    probabilities: np.ndarray
    label: str | None = None
    source: str | None = None
    fold: int | None = None


def explain_image(workspace: Workspace, image: str, strategy: str) -> ImageExplained:
    """Explain `image`, an image_id of the study or the path of a PNG, JPEG or DICOM file.

    A file that is an image of the study, byte for byte, is explained as that. Raises `StudyError` for a strategy or an
    image that there is not, `StorageError` for a file that cannot be read, `ImageRefused` for one that is no image.
    """
    predictions = workspace.predictions
    if strategy not in predictions.probability:
        known = ", ".join(predictions.probability)
        raise StudyError(f"Expected a strategy of the study: {known}.", received=repr(strategy))
    rows = np.flatnonzero(predictions.image_id == image)
    if len(rows):
        return _of_study(workspace, int(rows[0]), strategy)
    if not Path(image).is_file():
        raise StudyError(
            f"Expected the path of an image, or an image_id out of the {len(predictions.image_id):,} study images.",
            received=repr(image),
            advice="predictions.parquet of the study lists them; images marked external are not of the folds.",
        )
    return _of_file(workspace, Path(image), strategy)


def _of_study(workspace: Workspace, row: int, strategy: str) -> ImageExplained:
    predictions, rows = workspace.predictions, np.array([row])
    (part,) = explain_rows(workspace, strategy, rows)
    widths, heights = sides(workspace, predictions.image_id[rows])
    (image,) = images_of(workspace, rows)
    return ImageExplained(
        name=str(predictions.image_id[row]),
        image=image,
        heat=part.maps[0],
        field=lung_fields(widths, heights, image.shape[0])[0],
        share=float(lung_shares(part.maps, widths, heights)[0][0]),
        probabilities=predictions.probability[strategy][row],
        label=CLASSES[predictions.label[row]],
        source=str(predictions.source[row]),
        fold=part.fold,
    )


def _of_file(workspace: Workspace, path: Path, strategy: str) -> ImageExplained:
    data = _read(path)
    known = _row_of(workspace, hashlib.sha256(data).hexdigest())
    if known is not None:
        return _of_study(workspace, known, strategy)
    try:
        read = read_image(data, workspace.profile.intake)
    except ImageRefused as refused:
        raise ImageRefused(refused.reason, f"{path}: {refused.detail}") from refused
    return _unseen(workspace, str(path), read, strategy)


def _unseen(workspace: Workspace, name: str, read: ChestImage, strategy: str) -> ImageExplained:
    """The mean of the folds' probabilities, and of their heatmaps for the class that it names, brought to 1 again."""
    images = resize_images(read.pixels[None], workspace.profile.model.input_size)
    widths, heights = np.array([read.width]), np.array([read.height])
    said = [predict_images(network, images, workspace)[0] for _, network in fold_networks(workspace, strategy)]
    probabilities = np.mean(said, axis=0)
    target = probabilities.argmax(keepdims=True)
    maps = np.mean([heatmaps(network, images, target) for _, network in fold_networks(workspace, strategy)], axis=0)
    maps = maps / max(float(maps.max()), np.finfo("float32").tiny)
    return ImageExplained(
        name=name,
        image=images[0],
        heat=maps[0],
        field=lung_fields(widths, heights, images.shape[1])[0],
        share=float(lung_shares(maps, widths, heights)[0][0]),
        probabilities=probabilities,
    )


def _row_of(workspace: Workspace, sha256: str) -> int | None:
    """The row of the predictions that is the image with these bytes."""
    table = workspace.manifest.table(["image_id", "file_sha256"])
    known = dict(zip(table["file_sha256"].to_pylist(), table["image_id"].to_pylist(), strict=True))
    rows = np.flatnonzero(workspace.predictions.image_id == known.get(sha256, ""))
    return int(rows[0]) if len(rows) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"Expected a readable image at {path}.", received=error.strerror) from error
