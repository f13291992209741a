"""Studies, manifests and registries as local files: folders as they are, object stores as temporary copies.

A storage holds `manifests/NAME` and `runs/NAME`, like `data/manifests` and `runs` of a machine.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cxr_platform.cluster import runs_in_copy
from cxr_platform.errors import ConfigError, ManifestError, StudyError
from cxr_platform.storage.lock import folder_lock
from cxr_platform.storage.mirror import is_not_lock, local_copy, local_file
from cxr_platform.storage.paths import is_remote
from pipelines.options import MANIFESTS, StudyRequest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from cxr_platform.domain.study import StudyRecord
    from cxr_platform.evidence.open_study import OpenStudy
    from cxr_platform.manifest.store import Manifest
    from cxr_platform.progress import Progress

R = TypeVar("R", bound="DataclassInstance")

NAME_THE_MANIFEST = "Use --manifest if it is in another place."


def is_study_result(file: str) -> bool:
    """Return True for results of a study; False for its lock and files of running trials, Ray Tune or a champion."""
    *folders, _ = file.split("/")
    running = any(folder.endswith(".run") for folder in folders)
    return is_not_lock(file) and folders[:1] not in (["tune"], ["champion"]) and not running


def is_pooled_result(file: str) -> bool:
    """Return True for the files with the pooled predictions of a study, which is all that a report reads of another."""
    return file in ("study.json", "predictions.parquet")


FILES_OF: dict[str, Callable[[str], bool]] = {
    "study": is_study_result,
    **dict.fromkeys(("other", "beside", "origins", "origins_beside"), is_pooled_result),
}
"""Which files are copied, by field of a request; all files for other fields."""


def check_survives_job(*places: Path) -> None:
    """Raise `ConfigError` for a relative path in a submitted job: Ray removes the job's working directory."""
    for where in places:
        if not is_remote(where) and not where.is_absolute() and runs_in_copy():
            raise ConfigError(
                "Expected an absolute path or a URI that every node sees and that outlives the job.",
                received=where,
                advice="Give it with --storage, --runs, --out, --study or --registry.",
            )


@contextmanager
def local_copies(request: R, *names: str, read_only: bool = False) -> Iterator[R]:
    """Yield `request` with its fields `names`, and `imagenet_weights`, replaced by local files.

    A local path stays as it is. A URI becomes a temporary copy, of which changes are uploaded when the block ends
    (`mirror.local_copy`). A `manifest` that is `None` is looked for in the study's storage. A registry in an object
    store is locked until the block ends, unless `read_only`.
    """
    with ExitStack() as copies:
        places = {name: where for name in names if (where := getattr(request, name)) is not None}
        if "manifest" in names and "manifest" not in places and "study" in places:
            places |= _manifest_in_storage(places["study"])
        check_survives_job(*places.values())
        checks = {}
        if is_remote(places.get("registry", Path())) and not read_only:  # its own lock is one of a local file system
            checks["registry"] = copies.enter_context(
                folder_lock(places["registry"], f"the registry {places['registry']}")
            )
        local = {
            name: copies.enter_context(
                local_copy(where, FILES_OF.get(name, is_not_lock), checks.get(name, lambda: None))
            )
            for name, where in places.items()
        }
        if (weights := getattr(request, "imagenet_weights", None)) is not None:
            local["imagenet_weights"] = copies.enter_context(local_file(weights))
        yield dataclasses.replace(request, **local)


def manifest_of_nodes(request: StudyRequest, copy: "Manifest") -> "Manifest":
    """Return the manifest of `request` at its own place, which all nodes see, not the local `copy` of a store."""
    from cxr_platform.manifest.store import open_manifest

    where = request.manifest or _manifest_in_storage(request.study).get("manifest")
    return open_manifest(where) if where is not None and is_remote(where) else copy


def _manifest_in_storage(study: Path) -> dict[str, Path]:
    from cxr_platform.domain.study import read_study

    try:
        name = Path(read_study(study).manifest.path).name
    except StudyError:  # reported when the study itself is read
        return {}
    manifest = study.parent.parent / "manifests" / name
    return {"manifest": manifest} if (manifest / "manifest.json").exists() else {}


def open_study(request: StudyRequest, progress: "Progress") -> "OpenStudy":
    """Open a study with its predictions, winner and manifest.

    Raises `StudyError` or `PredictionsError` if the study is incomplete or was run on another manifest, and
    `ManifestError` if there is no manifest.
    """
    from cxr_platform.domain.study import read_study
    from cxr_platform.evaluation.predictions import check_against_manifest, load_predictions
    from cxr_platform.evaluation.study_results import compute_study_results
    from cxr_platform.evidence.open_study import OpenStudy
    from cxr_platform.training.folder import StudyFolder

    study = read_study(request.study)
    predictions = load_predictions(request.study, study)
    manifest = open_manifest_of(study, request.manifest)
    check_against_manifest(predictions, study, manifest.table(["image_id", "role", "label"]), manifest.content_hash)
    winner = compute_study_results(study, predictions).decision.winner
    return OpenStudy(
        StudyFolder(request.study), study, predictions, winner, manifest, progress, request.imagenet_weights
    )


def open_manifest_of(study: "StudyRecord", manifest: Path | None = None) -> "Manifest":
    """Open `manifest`, or by default the one in `MANIFESTS` with the name of the study's own.

    Does not compare content hashes. Raises `ManifestError` if there is none.
    """
    from cxr_platform.manifest.store import open_manifest

    try:
        return open_manifest(manifest or MANIFESTS / Path(study.manifest.path).name)
    except ManifestError as error:
        if manifest is None:
            error.advice = f"{error.advice} {NAME_THE_MANIFEST}".strip()
        raise
