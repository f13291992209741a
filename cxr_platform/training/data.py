"""The study images of a manifest as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxr_platform.config import Protocol, View
from cxr_platform.domain.study import ManifestFacts
from cxr_platform.errors import FoldError
from cxr_platform.intake.lung_views import stacked_views
from cxr_platform.labels import class_index
from cxr_platform.storage.node_cache import NodeCache
from cxr_platform.training.devices import check_memory
from cxr_platform.training.image_files import ImageFile, manifest_images
from cxr_platform.training.origin_folds import ImagesInFolds, OriginFolds, manifest_origin_folds
from cxr_platform.training.robust_head import CONTRAST

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest


@dataclass(frozen=True, eq=False)
class ViewImages(ImagesInFolds):
    """What `robust` is trained on: all study images in the order of `StudyData`, then the contrast images.

    images (M, V, S, S) uint8; labels (M,) int, positions in `CLASSES` or `CONTRAST`; folds (M,) int; origins (M,) str.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    folds: NDArray[Any]
    origins: NDArray[Any]
    origin_folds: OriginFolds | None = None


@dataclass(frozen=True)
class StudyData(ImagesInFolds):
    """All study images in manifest order.

    images (N, S, S) uint8, in memory or in a file; labels (N,) int, positions in `CLASSES`; folds (N,) int; the others
    (N,) str. `views` are there for a study with the strategy `robust`, `origin_folds` for the protocol origins, whose
    `folds` are the grouped ones.
    """

    images: NDArray[Any] | ImageFile
    labels: NDArray[Any]
    folds: NDArray[Any]
    image_ids: NDArray[Any]
    group_ids: NDArray[Any]
    sources: NDArray[Any]
    source_paths: NDArray[Any]
    views: ViewImages | None = None
    origin_folds: OriginFolds | None = None

    def part(self, rows: NDArray[Any]) -> "StudyData":
        """Return the images of `rows`, in memory."""
        columns = (self.labels, self.folds, self.image_ids, self.group_ids, self.sources, self.source_paths)
        folds = None if self.origin_folds is None else self.origin_folds.of(rows)
        return replace(StudyData(self.images[rows], *(column[rows] for column in columns)), origin_folds=folds)


IN_MEMORY_BYTES = 2**29
"""Images that together are larger are read from a file as they are needed."""


def load_study_data(
    manifest: "Manifest",
    protocol: Protocol,
    folds: int,
    input_size: int,
    views: Sequence[View] = (),
    cache_gib: float | None = None,
) -> StudyData:
    """Return the manifest's images of role `study` at `input_size` × `input_size` pixels, and any `views` of them.

    Above `IN_MEMORY_BYTES` they stay in a file of each node that reads them, of at most `cache_gib`
    (`resources.cache_gib`). Raises `FoldError` if the manifest is split into another number of folds, `NotPossible` if
    there is no memory for the views.
    """
    columns = ["image_id", "source_path", "group_id", "source", "label", "role", fold_column(protocol)]
    table = manifest.table(columns)
    study = np.array(table["role"].to_pylist()) == "study"
    assigned = table[fold_column(protocol)].to_numpy()[study].astype(int)
    origin_folds = manifest_origin_folds(manifest).of(study) if protocol == "origins" else None
    check_folds(manifest, len(np.unique(assigned)) if origin_folds is None else len(origin_folds.origins), folds)
    return StudyData(
        images=_images(manifest, study, input_size, cache_gib),
        labels=np.array([class_index(label) for label in _strings(table, "label")[study]]),
        folds=assigned,
        image_ids=_strings(table, "image_id")[study],
        group_ids=_strings(table, "group_id")[study],
        sources=_strings(table, "source")[study],
        source_paths=_strings(table, "source_path")[study],
        views=load_view_images(manifest, protocol, input_size, views) if views else None,
        origin_folds=origin_folds,
    )


def check_folds(manifest: "Manifest", present: int, folds: int) -> None:
    """Raise `FoldError` if the manifest is split into another number of folds than a study has."""
    if present != folds:
        raise FoldError(
            f"Expected a manifest split into {folds} folds.",
            received=f"{present} in {manifest.folder}",
            advice=f"Build it again with FOLDS={folds} (make manifest), or run the study with FOLDS={present}.",
        )


def fold_column(protocol: Protocol) -> str:
    """Return the manifest's column of the folds of `protocol`; origins are left out beside the grouped ones."""
    return f"fold_{'grouped' if protocol == 'origins' else protocol}"


def load_view_images(manifest: "Manifest", protocol: Protocol, input_size: int, views: Sequence[View]) -> ViewImages:
    """Return `views` of the manifest's images of role `study`, then of role `contrast`.

    They are in memory, the images of which they are made only a row group at a time. Raises `NotPossible` if they do
    not fit.
    """
    table = manifest.table(["role", "label", "source", "width", "height", fold_column(protocol)])
    roles = np.array(table["role"].to_pylist())
    used = np.isin(roles, ("study", "contrast"))
    shape = (np.count_nonzero(used), len(views), input_size, input_size)
    what = f"{len(views)} views of {shape[0]:,} images, which the strategy robust keeps in memory"
    check_memory(prod(shape), what, "a smaller --input-size, or other --strategies")
    study_first = np.argsort(roles[used] != "study", kind="stable")
    places = np.argsort(study_first)
    table = table.filter(pa.array(used))
    widths, heights = (table[side].to_numpy() for side in ("width", "height"))
    images, read = np.empty(shape, np.uint8), 0
    for batch in manifest.pixel_batches(used):
        rows = slice(read, read + len(batch))
        images[places[rows]] = stacked_views(views, batch, widths[rows], heights[rows], input_size)
        read += len(batch)
    taken = table.take(study_first)
    labels = [CONTRAST if label is None else class_index(label) for label in taken["label"].to_pylist()]
    return ViewImages(
        images=images,
        labels=np.array(labels),
        folds=taken[fold_column(protocol)].to_numpy().astype(int),
        origins=np.array([manifest.info.origins.get(source, source) for source in taken["source"].to_pylist()]),
        origin_folds=manifest_origin_folds(manifest).of(np.flatnonzero(used)[study_first])
        if protocol == "origins"
        else None,
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
        outside=info.outside,
    )


def _strings(table: pa.Table, column: str) -> NDArray[Any]:
    return np.array(table[column].to_pylist())


def _images(manifest: "Manifest", study: NDArray[Any], side: int, cache_gib: float | None) -> NDArray[Any] | ImageFile:
    if np.count_nonzero(study) * side**2 > IN_MEMORY_BYTES:
        return manifest_images(manifest, study, side, NodeCache(cache_gib))
    return manifest.pixels(study, side)
