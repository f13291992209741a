"""Run every strategy × fold of a study over a manifest, then write the report.

    cxr cross-validate --manifest data/manifests/NAME --name NAME --profile quick
    cxr cross-validate --data URI --storage URI --profile paper

The second form also builds the manifest, unless there is a current one, and keeps all results in one storage: use it
for a job of a cluster. An interrupted study is continued by the same command, on any machine. `--engine local` runs the
trials without Ray: in this process, or in several that share the GPU. `--protocol origins` runs every strategy once
without each hospital, for the report of a grouped study.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cxr_platform.config import Profile, Protocol, RobustConfig
from cxr_platform.domain.strategies import ROBUST, parse_strategies, strategy_by_name
from cxr_platform.errors import ConfigError, TrialsFailed
from cxr_platform.training.plan import StudyPlan
from pipelines.command import run_command
from pipelines.local_study import check_survives_job, is_pooled_result, local_copies
from pipelines.manifest import ManifestRequest, add_data_option, add_role_options, ensure_manifest
from pipelines.options import (
    MANIFESTS,
    ORIGINS_SUFFIX,
    RUNS,
    MetricsOptions,
    ProfileOptions,
    add_metrics_options,
    add_profile_options,
    add_storage_option,
    add_weights_option,
    location,
    parse_request,
)

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest
    from cxr_platform.monitoring.job_metrics import JobMetrics
    from cxr_platform.training.study import StudyRun


@dataclass(frozen=True)
class CrossValidateRequest:
    """A study to run: over `manifest`, or over one that is built of `data`."""

    manifest: Path | None
    data: Sequence[Path] | None
    name: str | None
    runs: Path | None
    storage: Path | None
    external: tuple[str, ...]
    outside: tuple[str, ...]
    protocol: Literal["grouped", "paper", "both", "origins"]
    strategies: str
    engine: Literal["ray", "local"]
    ray_address: str | None
    imagenet_weights: Path | None
    no_report: bool
    profile: ProfileOptions
    metrics: MetricsOptions
    processes: int = 1


@dataclass(frozen=True)
class StudyPlaces:
    """Name of a study, folder or URI of all studies, and of its manifest."""

    name: str
    runs: Path
    manifest: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 if trials failed, 2 for a request that cannot be run, 130 when interrupted."""
    return run_command(lambda: run(parse_request(CrossValidateRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr cross-validate`."""
    parser = argparse.ArgumentParser(
        prog="cxr cross-validate", description="Run every strategy × fold over a manifest, then write the report."
    )
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--manifest", type=location, help="folder or URI of the manifest")
    add_data_option(images, help="folder or URI of collections to build a manifest of, or several")
    parser.add_argument("--name", help="name of the study; its folder is RUNS/NAME (default: DATA-PROFILE)")
    parser.add_argument("--runs", type=location, help="folder or URI of all studies (default: runs)")
    add_storage_option(parser)
    add_role_options(parser)
    parser.add_argument(
        "--protocol",
        choices=("grouped", "paper", "both", "origins"),
        default="grouped",
        help="grouped: the images of a patient are in one fold; paper: images are shuffled; both: one after the other; "
        "origins: each fold leaves one hospital out, for the report of a grouped study (default: grouped)",
    )
    parser.add_argument(
        "--strategies", default="all", help="strategies separated by commas; all: the paper's eight (default: all)"
    )
    parser.add_argument("--engine", choices=("ray", "local"), default="ray", help="where trials run (default: ray)")
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="processes of --engine local, which share the GPU or the processors (default: 1)",
    )
    parser.add_argument("--ray-address", help="address of a Ray cluster (default: this machine alone)")
    add_weights_option(parser)
    parser.add_argument("--no-report", action="store_true", help="stop after the pooled predictions")
    add_profile_options(parser)
    add_metrics_options(parser)
    return parser


def run(request: CrossValidateRequest) -> int:
    """Run the study, or both if the protocol is `both`, with their reports; return 0, or raise `TrialsFailed`."""
    from cxr_platform.manifest.store import open_manifest

    profile = request.profile.load()
    strategies = parse_strategies(request.strategies)
    if profile.robust != RobustConfig() and ROBUST not in strategies:
        print(f"[robust] of the profile {profile.name} has no effect without the strategy robust.")
    _check_processes(request, profile)
    places = study_places(request, profile)
    protocols: list[tuple[str, Protocol]]
    if request.protocol == "both":
        protocols = [(places.name, "grouped"), (f"{places.name}-paper", "paper")]
    else:
        protocols = [(places.name, request.protocol)]
    if request.data is not None:
        to_build = ManifestRequest(
            data=request.data,
            out=places.manifest,
            external=request.external,
            outside=request.outside,
            ray_address=request.ray_address,
            profile=request.profile,
            metrics=request.metrics,
        )
        ensure_manifest(to_build, _hash_of_started_study(places.runs, protocols, profile))
    manifest = open_manifest(places.manifest)
    plans = [_plan(manifest, name, protocol, strategies, profile) for name, protocol in protocols]
    _assign_devices(request, profile)
    imagenet = _imagenet_weights(strategies, profile, request.imagenet_weights)
    failures = []
    for plan in plans:
        try:
            _run_study(request, places, manifest, plan, imagenet)
        except TrialsFailed as error:  # the other protocol runs nevertheless
            failures.append(error)
    if request.protocol == "both" and not request.no_report:  # the grouped study again, now with the other to compare
        grouped, paper = (places.runs / plan.name for plan in plans)
        _write_report(request, places, grouped, paper)
    if failures:
        raise failures[0]
    return 0


def _plan(
    manifest: "Manifest", name: str, protocol: Protocol, strategies: tuple[str, ...], profile: Profile
) -> StudyPlan:
    """Return the plan of a study; under the protocol origins it has a fold for each origin that is left out."""
    from cxr_platform.training.data import check_folds, manifest_facts
    from cxr_platform.training.origin_folds import manifest_origin_folds

    facts = manifest_facts(manifest)
    if protocol != "origins":
        return StudyPlan(name, protocol, strategies, profile, facts)
    check_folds(manifest, manifest.info.folds, profile.folds)
    left_out = manifest_origin_folds(manifest).origins
    return StudyPlan(name, protocol, strategies, replace(profile, folds=len(left_out)), facts, left_out)


def _check_processes(request: CrossValidateRequest, profile: Profile) -> None:
    if request.processes < 1 or (request.processes > 1 and request.engine != "local"):
        raise ConfigError(
            "Expected --processes of at least 1, and more than 1 with --engine local only.",
            received=f"--processes {request.processes} --engine {request.engine}",
            advice="Ray runs as many trials at once as resources.cpu and resources.gpu of the profile allow.",
        )
    if profile.resources.mps and request.engine == "local" and request.processes == 1:
        raise ConfigError(
            "Expected several processes that share a GPU for resources.mps = true.",
            received="--engine local --processes 1",
            advice="Give more --processes, or leave resources.mps out.",
        )


def study_places(request: CrossValidateRequest, profile: Profile) -> StudyPlaces:
    """Return name, folder and manifest of the study, as the options say or by default.

    Raises `ConfigError` for a bad name, for `--storage` beside `--runs`, and for places that would not outlive a job.
    """
    if request.storage is not None and request.runs is not None:
        raise ConfigError(
            "Expected --storage, which has its own runs/, or --runs.",
            received=f"{request.storage} and {request.runs}",
            advice="Leave one of them out.",
        )
    images = request.data or (request.manifest,)
    folders = "-".join(folder.absolute().name for folder in images if folder is not None)  # the parser requires one
    default = f"{folders}-{profile.name}"
    name = request.name or default + ORIGINS_SUFFIX * (request.protocol == "origins")
    runs, manifests = request.runs or RUNS, MANIFESTS
    if request.storage is not None:
        runs, manifests = request.storage / "runs", request.storage / "manifests"
    manifest = request.manifest or manifests / (request.name or default)
    check_survives_job(runs, manifest)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError("Expected --name of letters, digits, '.', '_' and '-'.", received=repr(name))
    return StudyPlaces(name, runs, manifest)


def _hash_of_started_study(runs: Path, protocols: list[tuple[str, Protocol]], profile: Profile) -> str | None:
    """Return the content hash of the manifest of a study that is to be continued, if there is one."""
    from cxr_platform.training.folder import StudyFolder

    hashes = (StudyFolder(runs / name).known_manifest(profile, protocol) for name, protocol in protocols)
    return next((content_hash for content_hash in hashes if content_hash is not None), None)


def _run_study(
    request: CrossValidateRequest, places: StudyPlaces, manifest: "Manifest", plan: StudyPlan, imagenet: Any
) -> None:
    from cxr_platform.training.data import load_study_data
    from cxr_platform.training.folder import StudyFolder
    from cxr_platform.training.progress import LiveStudyProgress, StudyProgress
    from cxr_platform.training.study import StudyRun, run_study
    from pipelines.progress import PlainLines

    profile = plan.profile
    size, cache_gib = profile.model.input_size, profile.resources.cache_gib
    data = load_study_data(manifest, plan.protocol, profile.folds, size, plan.views, cache_gib)
    images, strategies = len(data.labels), len(plan.strategies)
    study = StudyRun(plan, StudyFolder(places.runs / plan.name), data, imagenet)
    folds = f"{profile.folds} folds, {plan.protocol}"
    if plan.left_out:
        folds = f"{profile.folds} origins left out in turn: {', '.join(plan.left_out)}"
    print(f"Study {plan.name}: {images} images, {strategies} strategies × {folds}")
    progress = LiveStudyProgress() if sys.stdout.isatty() else StudyProgress(PlainLines(sys.stdout))
    failure = None
    with request.metrics.job("study", plan.name) as job:
        try:
            with request.metrics.watch(job) as watch:
                progress.on_advance = watch.advance
                predictions = run_study(study, _engine(request), progress)
            print(f"Out-of-fold predictions: {predictions}")
        except TrialsFailed as error:
            failure = error
        count_study(job, study)
        record = study.folder.record()  # with the strategies of earlier runs
        if plan.left_out and failure is None:
            print(f"Shown in the report of a grouped study: cxr report --study … --origins {study.folder.root}")
        elif (
            not plan.left_out
            and not request.no_report
            and study.folder.complete(record.strategies, record.folds) == record.strategies
        ):
            _write_report(request, places, study.folder.root)
        if failure is not None:  # after the report on the strategies that are complete
            raise failure


def _write_report(request: CrossValidateRequest, places: StudyPlaces, study: Path, other: Path | None = None) -> None:
    from pipelines.report import STUDIES, ReportRequest, with_studies_beside, write_study_report

    files = with_studies_beside(ReportRequest(study, places.manifest, request.imagenet_weights, other=other))
    with local_copies(files, *STUDIES) as local:
        write_study_report(local)


def count_study(job: "JobMetrics", study: "StudyRun") -> None:
    """Set the metrics of a study: finished and failed trials, and the accuracy of every pooled strategy.

    Under the protocol origins, where an image is predicted several times, there is no pooled accuracy.
    """
    from cxr_platform.domain.study import read_study
    from cxr_platform.evaluation.predictions import load_predictions
    from cxr_platform.evaluation.study_results import compute_study_results
    from cxr_platform.monitoring.job_metrics import study_counts
    from cxr_platform.storage.mirror import local_copy

    trials = study.plan.trials()
    finished = len(study.folder.finished(trials))
    accuracy: dict[str, float | None] = {}
    with local_copy(study.folder.root, is_pooled_result) as root:
        if (root / "predictions.parquet").is_file() and not study.plan.left_out:
            record = read_study(root)
            for name, result in compute_study_results(record, load_predictions(root, record)).strategies.items():
                accuracy[name] = result.pooled.accuracy_7_class
    study_counts(job, {"finished": finished, "failed": len(trials) - finished}, accuracy)


def _imagenet_weights(strategies: tuple[str, ...], profile: Profile, file: Path | None) -> Any:
    """Return the ImageNet weights, or `None` if no strategy needs them."""
    from cxr_platform.models.weights import find_weights, load_backbone_weights
    from cxr_platform.storage.mirror import local_file

    if not any(strategy_by_name(name).pretrained for name in strategies):
        return None
    with ExitStack() as copies:
        path = find_weights(profile.model.alpha, copies.enter_context(local_file(file)) if file else None)
        print(f"ImageNet weights: {path}")
        return load_backbone_weights(path, profile.model.alpha)


def _assign_devices(request: CrossValidateRequest, profile: Profile) -> None:
    """Limit this process to the resources of a trial, or leave the GPUs to the processes that run the trials.

    Print if this machine has a GPU that will not be used.
    """
    from cxr_platform.training import devices
    from cxr_platform.training.engine_local import local_share

    cluster = request.engine == "ray" and (request.ray_address or os.environ.get("RAY_ADDRESS"))
    if not cluster and profile.resources.gpu != 0 and devices.gpu_memory_gib() and not devices.backend_sees_gpu():
        backend, version = devices.keras_backend(), "13" if devices.keras_backend() == "jax" else "12"
        print(
            f"The GPU of this machine is not used: Keras on {backend} sees none. `make setup STACK={backend} "
            f"CUDA={version}` installs NVIDIA's libraries; resources.gpu = 0 in the profile leaves this line out."
        )
    if request.engine == "local" and request.processes == 1:
        share = local_share(profile.resources)
        devices.limit_process(share.cpus, share.gpus, devices.is_deterministic(profile.resources, share.gpus))
    else:
        devices.hide_gpus()


def _engine(request: CrossValidateRequest) -> Any:
    if request.engine == "ray":
        from cxr_platform.training import engine_ray

        return partial(engine_ray.run, address=request.ray_address)
    from cxr_platform.training import engine_local, engine_processes

    return partial(engine_processes.run, processes=request.processes) if request.processes > 1 else engine_local.run


if __name__ == "__main__":
    raise SystemExit(main())
