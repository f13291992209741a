"""The inputs of a report: study, predictions, manifest, and evidence from the study's models."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_platform.domain.strategies import ordered
from cxr_platform.domain.study import StudyRecord, TrialRecord, read_study
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.evidence_files import Evidence, read_evidence
from cxr_platform.evaluation.findings import UNDERTRAINED
from cxr_platform.evaluation.predictions import (
    Array,
    Predictions,
    check_against_manifest,
    load_origin_predictions,
    load_predictions,
)
from cxr_platform.evaluation.study_results import StudyResults, compute_study_results
from cxr_platform.manifest.schema import PIXELS, ManifestInfo, pixels_to_numpy
from cxr_platform.manifest.store import Manifest
from cxr_platform.storage.trial_files import read_trials


@dataclass(frozen=True, eq=False)
class ManifestImages:
    """Images of a manifest, external ones included.

    `facts` has the manifest's columns without pixels, indexed by image_id. `pixels(image_ids)` returns uint8 (n, S, S)
    in the order of the ids. `info` is its manifest.json.
    """

    facts: pd.DataFrame
    pixels: Callable[[Sequence[str]], Array]
    info: ManifestInfo | None = None


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """Everything that sections are computed from; `images` and `other` are `None` if not available.

    `other` is the study of the same manifest under the other protocol, with its predictions, and `origins` the one with
    the protocol origins (`load_origin_predictions`). `undertrained` names strategies whose training loss still fell at
    the end.
    """

    study: StudyRecord
    predictions: Predictions
    results: StudyResults
    images: ManifestImages | None
    evidence: Evidence
    other: tuple[StudyRecord, Predictions] | None = None
    origins: tuple[StudyRecord, pd.DataFrame] | None = None
    undertrained: tuple[str, ...] = ()

    @property
    def synthetic(self) -> bool:
        """True if images of the study are drawn."""
        return self.study.manifest.synthetic

    @property
    def winner_first(self) -> list[str]:
        """The strategies of the study in its order, the winner before the others."""
        winner = self.results.decision.winner
        return sorted(self.study.strategies, key=lambda strategy: strategy != winner)


def load_report_inputs(
    study_folder: Path,
    manifest: Manifest | None = None,
    other_folder: Path | None = None,
    origins_folder: Path | None = None,
    *,
    with_evidence: bool = True,
) -> ReportInputs:
    """Read a study with everything that belongs to it, and check that it fits together.

    With `manifest`, the predictions must cover exactly its study images. `other_folder` is a study of the same manifest
    under the other protocol, `origins_folder` one with the protocol origins. Stored evidence is read only
    `with_evidence`. Raise `StudyError` or `PredictionsError`, naming what is missing, duplicated or from another
    manifest.
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
        other=None if other_folder is None else load_other(other_folder, study, predictions),
        origins=None if origins_folder is None else load_origins(origins_folder, study, predictions),
        undertrained=undertrained(read_trials(study_folder, study.trials()).values()),
    )


def undertrained(trials: Iterable[TrialRecord | None]) -> tuple[str, ...]:
    """Return the strategies whose `loss_fall` is above `UNDERTRAINED` on average over their folds."""
    falls: dict[str, list[float]] = {}
    for trial in trials:
        if trial is not None:
            falls.setdefault(trial.strategy, []).append(trial.loss_fall)
    return ordered(name for name, values in falls.items() if np.mean(values) > UNDERTRAINED)


def settings_that_differ(ours: StudyRecord, other: StudyRecord) -> list[str]:
    """Return the names of the settings that results depend on and in which the profiles of two studies differ."""
    without = ("name", "resources")
    profile = {name: value for name, value in vars(ours.profile).items() if name not in without}
    return sorted(name for name, value in profile.items() if value != getattr(other.profile, name))


def manifest_images(manifest: Manifest) -> ManifestImages:
    """Return the images of a manifest; pixels are read when asked for."""
    facts: pd.DataFrame = manifest.table().to_pandas().set_index("image_id")
    return ManifestImages(facts, lambda image_ids: read_pixels(manifest, image_ids), manifest.info)


def read_pixels(manifest: Manifest, image_ids: Sequence[str]) -> Array:
    """Return uint8 (n, S, S) in the order of `image_ids`; raise `StudyError` naming the first unknown image.

    The manifest is read one row group at a time, so memory grows with the images asked for only.
    """
    wanted = set(image_ids)
    pixels: dict[str, Array] = {}
    for batch in manifest.batches(["image_id", PIXELS]):
        ids = batch["image_id"].to_pylist()
        rows = [row for row, image_id in enumerate(ids) if image_id in wanted]
        if rows:
            pixels |= zip((ids[row] for row in rows), pixels_to_numpy(batch.take(rows)[PIXELS]), strict=True)
        if len(pixels) == len(wanted):
            break
    missing = sorted(wanted - pixels.keys())
    if missing:
        raise StudyError(
            f"Expected images of the manifest {manifest.folder}.", received=f"no image {missing[0]!r} in it"
        )
    size = manifest.schema.field(PIXELS).type.shape[0]
    return np.stack([pixels[i] for i in image_ids]) if len(image_ids) else np.empty((0, size, size), np.uint8)


def load_other(folder: Path, study: StudyRecord, predictions: Predictions) -> tuple[StudyRecord, Predictions]:
    """Return the study of the same images under the other protocol; raise `StudyError` if it is none."""
    other = _read_of_same_manifest(folder, study)
    if other.protocol == study.protocol:
        raise StudyError(
            f"Expected {folder} to be a study under the other protocol than {study.name!r}.",
            received=f"both are {study.protocol!r}",
            advice="Give the folder of the study that PROTOCOL=paper or PROTOCOL=grouped wrote.",
        )
    other_predictions = load_predictions(folder, other)
    _check_same_images(folder, study, set(other_predictions.image_id) ^ set(predictions.image_id))
    return other, other_predictions


def load_origins(folder: Path, study: StudyRecord, predictions: Predictions) -> tuple[StudyRecord, pd.DataFrame]:
    """Return the study of the same images with the protocol origins; raise `StudyError` if it is none."""
    origins = _read_of_same_manifest(folder, study)
    frame = load_origin_predictions(folder, origins)
    if origins.manifest.origins != study.manifest.origins:
        raise StudyError(
            f"Expected {folder} to join the same sources to origins as {study.name!r}.",
            received=f"{origins.manifest.origins} and {study.manifest.origins}",
            advice=f"Run the command of {study.name!r} again: it takes over the origins, and trains nothing anew.",
        )
    _check_same_images(folder, study, set(frame["image_id"]) - set(predictions.image_id))
    return origins, frame


def _read_of_same_manifest(folder: Path, study: StudyRecord) -> StudyRecord:
    other = read_study(folder)
    if other.manifest.content_hash != study.manifest.content_hash:
        raise StudyError(
            f"Expected {folder} to be on the manifest {study.manifest.content_hash}, like {study.name!r}.",
            received=other.manifest.content_hash,
            advice="Protocols can be compared only on the same images: PROTOCOL=both, or origins, runs them.",
        )
    return other


def _check_same_images(folder: Path, study: StudyRecord, unmatched: set[str]) -> None:
    if unmatched:
        raise StudyError(
            f"Expected {folder} to have predictions for the same images as {study.name!r}.",
            received=f"{len(unmatched)} images that only one of them has",
            advice="One of the two files was edited: run that study again.",
        )
