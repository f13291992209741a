"""The study images of a manifest as arrays."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxr_platform.config import Protocol
from cxr_platform.domain.study import ManifestFacts
from cxr_platform.errors import FoldError
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.labels import class_index

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest


@dataclass(frozen=True)
class StudyData:
    """All study images in manifest order.

    images (N, S, S) uint8; labels (N,) int, positions in `CLASSES`; folds (N,) int; the others (N,) str.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    folds: NDArray[Any]
    image_ids: NDArray[Any]
    group_ids: NDArray[Any]
    sources: NDArray[Any]
    source_paths: NDArray[Any]

    def rows_of_fold(self, fold: int) -> NDArray[Any]:
        """Return the row numbers of the images that are tested in `fold`."""
        return np.flatnonzero(self.folds == fold)

    def rows_outside(self, fold: int) -> NDArray[Any]:
        """Return the row numbers of the images that are trained on when `fold` is tested."""
        return np.flatnonzero(self.folds != fold)


def load_study_data(manifest: "Manifest", protocol: Protocol, folds: int, input_size: int) -> StudyData:
    """Return the manifest's images of role `study` at `input_size` × `input_size` pixels.

    Raises `FoldError` if the manifest is split into another number of folds.
    """
    columns = ["image_id", "source_path", "group_id", "source", "label", "role", f"fold_{protocol}"]
    table = manifest.table(columns)
    study = np.array(table["role"].to_pylist()) == "study"
    assigned = table[f"fold_{protocol}"].to_numpy()[study].astype(int)
    present = len(np.unique(assigned))
    if present != folds:
        raise FoldError(
            f"Expected a manifest split into {folds} folds.",
            received=f"{present} in {manifest.folder}",
            advice=f"Build it again with FOLDS={folds} (make manifest), or run the study with FOLDS={present}.",
        )
    return StudyData(
        images=resize_images(manifest.pixels()[study], input_size),
        labels=np.array([class_index(label) for label in _strings(table, "label")[study]]),
        folds=assigned,
        image_ids=_strings(table, "image_id")[study],
        group_ids=_strings(table, "group_id")[study],
        sources=_strings(table, "source")[study],
        source_paths=_strings(table, "source_path")[study],
    )


def manifest_facts(manifest: "Manifest") -> ManifestFacts:
    """Return what `study.json` states about `manifest`."""
    info = manifest.info
    return ManifestFacts(
        content_hash=info.content_hash,
        path=manifest.folder.name,
        images=info.images,
        study_images=manifest.table(["role"])["role"].to_pylist().count("study"),
        synthetic=info.synthetic,
        counts=info.counts,
        known_patients=manifest.known_patients(),
        origins=info.origins,
        contrast=info.contrast,
    )


def _strings(table: pa.Table, column: str) -> NDArray[Any]:
    return np.array(table[column].to_pylist())
