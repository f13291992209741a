"""What the report is made from: stored predictions, the manifest, and what was computed from the study's models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.domain.study import StudyRecord, read_study
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.evidence_files import Evidence, read_evidence
from cxr_platform.evaluation.predictions import Predictions, check_against_manifest, load_predictions
from cxr_platform.evaluation.study_results import StudyResults, compute_study_results

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cxr_platform.manifest.schema import ManifestInfo
    from cxr_platform.manifest.store import Manifest


@dataclass(frozen=True, eq=False)
class ManifestImages:
    """The manifest's images. `facts` has its columns without pixels, indexed by image_id, external images included.

    `pixels(image_ids)` gives uint8 (n, S, S) in the order asked for. `info` is its manifest.json.
    """

    facts: "pd.DataFrame"
    pixels: "Callable[[Sequence[str]], np.ndarray]"
    info: "ManifestInfo | None" = None


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """Everything that sections are computed from; `None` for what there is not, with which each section must live.

    `other` are the predictions of the same manifest under the other protocol.
    """

    study: StudyRecord
    predictions: Predictions
    results: StudyResults
    images: ManifestImages | None
    evidence: Evidence
    other: tuple[StudyRecord, Predictions] | None = None

    @property
    def synthetic(self) -> bool:
        """Whether images of the study were drawn."""
        return self.study.manifest.synthetic


def load_report_inputs(
    study_folder: Path,
    manifest: "Manifest | None" = None,
    other_folder: Path | None = None,
    *,
    with_evidence: bool = True,
) -> ReportInputs:
    """Read a study and all that belongs to it, and check that it belongs together.

    With `manifest` the predictions must cover exactly its study images. `other_folder` is a study of the same manifest
    under the other protocol. Without `with_evidence` what is stored of it is not looked at. Raises `StudyError` or
    `PredictionsError` for whatever is missing, doubled or of another manifest, naming it.
    """
    study = read_study(study_folder)
    predictions = load_predictions(study_folder, study)
    if manifest is not None:
        images = manifest.table(["image_id", "role", "label"])
        check_against_manifest(predictions, study, images, manifest.content_hash)
    return ReportInputs(
        study=study,
        predictions=predictions,
        results=compute_study_results(study, predictions),
        images=None if manifest is None else manifest_images(manifest),
        evidence=read_evidence(study_folder) if with_evidence else Evidence(),
        other=None if other_folder is None else _other(other_folder, study, predictions),
    )


def manifest_images(manifest: "Manifest") -> ManifestImages:
    """The images of a manifest; pixels stay on disk until they are asked for, and then only those are kept."""
    facts: pd.DataFrame = manifest.table().to_pandas().set_index("image_id")
    return ManifestImages(facts, lambda image_ids: read_pixels(manifest, image_ids), manifest.info)


def read_pixels(manifest: "Manifest", image_ids: Sequence[str]) -> "np.ndarray":
    """uint8 (n, S, S), in the order asked for; raises `StudyError` naming the first image that is not in the manifest.

    The manifest is read a row group at a time, so that a few images of many cost a few images of memory.
    """
    import numpy as np

    from cxr_platform.manifest.schema import PIXELS, pixels_to_numpy

    wanted = set(image_ids)
    found: dict[str, np.ndarray] = {}
    for batch in manifest.batches(["image_id", PIXELS]):
        ids = batch["image_id"].to_pylist()
        rows = [row for row, image_id in enumerate(ids) if image_id in wanted]
        if rows:
            found |= zip((ids[row] for row in rows), pixels_to_numpy(batch.take(rows)[PIXELS]), strict=True)
        if len(found) == len(wanted):
            break
    missing = sorted(wanted - found.keys())
    if missing:
        raise StudyError(
            f"Expected images of the manifest {manifest.folder}.", received=f"no image {missing[0]!r} in it"
        )
    size = manifest.schema.field(PIXELS).type.shape[0]
    return np.stack([found[i] for i in image_ids]) if len(image_ids) else np.empty((0, size, size), np.uint8)


def _other(folder: Path, study: StudyRecord, predictions: Predictions) -> tuple[StudyRecord, Predictions]:
    other = read_study(folder)
    if other.manifest.content_hash != study.manifest.content_hash:
        raise StudyError(
            f"Expected {folder} to be of the manifest {study.manifest.content_hash}, as {study.name!r}.",
            received=other.manifest.content_hash,
            advice="Only studies of the same images tell what the protocol does: make cv-all PROTOCOL=both runs both.",
        )
    if other.protocol == study.protocol:
        raise StudyError(
            f"Expected {folder} to be a study under the other protocol than {study.name!r}.",
            received=f"both are {study.protocol!r}",
            advice="Give the folder of the study that PROTOCOL=paper or PROTOCOL=grouped wrote.",
        )
    scored = load_predictions(folder, other)
    if set(scored.image_id) != set(predictions.image_id):
        raise StudyError(
            f"Expected {folder} to score the same images as {study.name!r}.",
            received=f"{len(set(scored.image_id) ^ set(predictions.image_id))} images that only one of them scores",
            advice="One of the two files was edited: run that study again.",
        )
    return other, scored
