"""A finished study and its manifest, as the verbs that look at its images open them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.places import MANIFESTS, a_place

if TYPE_CHECKING:
    from cxr_platform.domain.study import StudyRecord
    from cxr_platform.evidence.workspace import Progress, Workspace
    from cxr_platform.manifest.store import Manifest

ELSEWHERE = "--manifest names it where it lies elsewhere."


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """`--study`, and what is needed to open it: `--manifest` and `--imagenet-weights`."""
    parser.add_argument("--study", type=a_place, required=True, metavar="runs/NAME", help="folder or URI of a study")
    parser.add_argument(
        "--manifest",
        type=a_place,
        help=f"the study's manifest (default: its own in the same storage, or in {MANIFESTS})",
    )
    parser.add_argument("--imagenet-weights", type=a_place, help="a published MobileNetV2 file, if it is at hand")


def open_study(folder: Path, manifest: Path | None, imagenet_weights: Path | None, progress: "Progress") -> "Workspace":
    """The study in `folder` on the manifest that is named, or its own.

    Raises `StudyError` and `PredictionsError` for a study that is not whole or is of another manifest, `ManifestError`
    for a manifest that is not there.
    """
    from cxr_platform.domain.study import read_study
    from cxr_platform.evaluation.predictions import check_against_manifest, load_predictions
    from cxr_platform.evaluation.study_results import compute_study_results
    from cxr_platform.evidence.workspace import Workspace
    from cxr_platform.training.folder import StudyFolder

    study = read_study(folder)
    predictions = load_predictions(folder, study)
    opened = open_manifest_of(study, manifest)
    check_against_manifest(predictions, study, opened.table(["image_id", "role", "label"]), opened.content_hash)
    winner = compute_study_results(study, predictions).decision.winner
    return Workspace(StudyFolder(folder), study, predictions, winner, opened, progress, imagenet_weights)


def open_manifest_of(study: "StudyRecord", named: Path | None = None) -> "Manifest":
    """The manifest that is named, else the one in `MANIFESTS` that is called as the study's was.

    Its content hash is not compared. Raises `ManifestError` where there is none.
    """
    from cxr_platform.errors import ManifestError
    from cxr_platform.manifest.store import open_manifest

    try:
        return open_manifest(named or MANIFESTS / Path(study.manifest.path).name)
    except ManifestError as error:
        if named is None:
            error.advice = f"{error.advice} {ELSEWHERE}".strip()
        raise
