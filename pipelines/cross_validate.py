"""Run every strategy × fold of a study over a manifest, then write the report.

    python -m pipelines.cross_validate --manifest data/manifests/NAME --name NAME --profile quick
    python -m pipelines.cross_validate --data URI --storage URI --profile paper

The second builds the manifest too, unless there is one of these settings, and keeps all that it makes in one storage:
so it runs as a job of a cluster. Interrupted, the same command continues, on whatever machine. `--engine local` runs
the same trials in this process without Ray.
"""

import argparse
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cxr_platform.config import Profile, Protocol, load_profile
from cxr_platform.domain.strategies import parse_strategies, strategy_by_name
from cxr_platform.errors import ConfigError, TrialsFailed
from cxr_platform.training.plan import StudyPlan
from pipelines.arguments import add_profile_arguments, profile_overrides
from pipelines.command import run_command
from pipelines.job_metrics import add_metrics_arguments, count_study, metrics_job
from pipelines.manifest import ensure_manifest
from pipelines.places import MANIFESTS, RUNS, a_place, add_storage_argument, at_hand, refuse_copies, settled_place


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 when trials failed, 2 when the request cannot be served, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr cross-validate", description=__doc__.split("\n")[0])
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--manifest", type=a_place, help="folder or URI of the manifest")
    images.add_argument("--data", type=settled_place, help="folder or URI of collections, to build a manifest of")
    parser.add_argument("--name", help="name of the study; its folder is RUNS/NAME (default: DATA-PROFILE)")
    parser.add_argument("--runs", type=a_place, help="folder or URI of all studies (default: runs)")
    add_storage_argument(parser)
    parser.add_argument("--external", default="", help="sources of --data that are only scored, separated by commas")
    parser.add_argument("--protocol", choices=("grouped", "paper", "both"), default="grouped")
    parser.add_argument("--strategies", default="all", help="names separated by commas, or all")
    parser.add_argument("--engine", choices=("ray", "local"), default="ray")
    parser.add_argument("--ray-address", help="a running Ray cluster; without it this machine alone")
    parser.add_argument("--imagenet-weights", type=a_place, help="a published MobileNetV2 file, if it is at hand")
    parser.add_argument("--no-report", action="store_true", help="stop after the pooled predictions")
    add_profile_arguments(parser)
    add_metrics_arguments(parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.manifest.store import open_manifest
    from cxr_platform.training.data import manifest_facts

    profile = load_profile(arguments.profile, profile_overrides(arguments))
    strategies = parse_strategies(arguments.strategies)
    _complete(arguments, profile)
    _check_name(arguments.name)
    if arguments.data is not None:
        ensure_manifest(arguments, profile, _begun_with(arguments, profile))
    manifest = open_manifest(arguments.manifest)
    _take_devices(arguments.engine, profile)
    imagenet = _imagenet(strategies, profile, arguments.imagenet_weights)
    failed = []
    for name, protocol in _protocols(arguments):
        try:
            plan = StudyPlan(name, protocol, strategies, profile, manifest_facts(manifest))
            _run_protocol(arguments, manifest, plan, imagenet)
        except TrialsFailed as error:  # the other protocol is still worth its run
            failed.append(error)
    if arguments.protocol == "both":
        _report_beside(arguments)
    if failed:
        raise failed[0]
    return 0


def _complete(arguments: argparse.Namespace, profile: Profile) -> None:
    """Name, runs and manifest where they follow from the other arguments."""
    arguments.name = arguments.name or f"{(arguments.data or arguments.manifest).absolute().name}-{profile.name}"
    manifests = MANIFESTS
    if arguments.storage is not None:
        if arguments.runs is not None:
            raise ConfigError(
                "Expected --storage, which has its own runs/, or --runs.",
                received=f"{arguments.storage} and {arguments.runs}",
                advice="Leave one of them out.",
            )
        arguments.runs, manifests = arguments.storage / "runs", arguments.storage / "manifests"
    arguments.runs = arguments.runs or RUNS
    if arguments.data is not None:
        arguments.manifest = manifests / arguments.name
    refuse_copies(arguments.runs, arguments.manifest)


def _begun_with(arguments: argparse.Namespace, profile: Profile) -> str | None:
    """Content hash of the manifest of the study that is to be continued, if there is one."""
    from cxr_platform.training.folder import StudyFolder

    hashes = (
        StudyFolder(arguments.runs / name).known_manifest(profile, protocol) for name, protocol in _protocols(arguments)
    )
    return next((content_hash for content_hash in hashes if content_hash is not None), None)


def _protocols(arguments: argparse.Namespace) -> list[tuple[str, Protocol]]:
    """Names and protocols of the studies: with `both`, the paper's beside the grouped one."""
    if arguments.protocol == "both":
        return [(arguments.name, "grouped"), (f"{arguments.name}-paper", "paper")]
    return [(arguments.name, arguments.protocol)]


def _run_protocol(arguments: argparse.Namespace, manifest: Any, plan: StudyPlan, imagenet: Any) -> None:
    from cxr_platform.training.data import load_study_data
    from cxr_platform.training.folder import StudyFolder
    from cxr_platform.training.progress import make_progress
    from cxr_platform.training.study import StudyRun, run_study

    profile = plan.profile
    data = load_study_data(manifest, plan.protocol, profile.folds, profile.model.input_size)
    study = StudyRun(plan, StudyFolder(arguments.runs / plan.name), data, imagenet)
    images, strategies = len(data.labels), len(plan.strategies)
    print(f"Study {plan.name}: {images} images, {strategies} strategies × {profile.folds} folds, {plan.protocol}")
    with metrics_job("study", plan.name, arguments) as job:
        try:
            print(f"Out-of-fold predictions: {run_study(study, _engine(arguments), make_progress())}")
        except TrialsFailed:
            count_study(job, study)
            _report(arguments, study.folder.root)  # on the strategies that are complete
            raise
        count_study(job, study)
        _report(arguments, study.folder.root)


def _report(arguments: argparse.Namespace, root: Path) -> None:
    from cxr_platform.training.folder import StudyFolder
    from pipelines.report import write_and_tell

    study = StudyFolder(root).record()
    if arguments.no_report or StudyFolder(root).complete(study.strategies, study.folds) != study.strategies:
        return
    place = argparse.Namespace(study=root, manifest=arguments.manifest, imagenet_weights=arguments.imagenet_weights)
    with at_hand(place, "study", "manifest") as local:
        write_and_tell(local.study, local.manifest, imagenet_weights=local.imagenet_weights)


def _report_beside(arguments: argparse.Namespace) -> None:
    """That of the grouped study again, now that there is something to compare it with."""
    from pipelines.report import write_and_tell

    if arguments.no_report:
        return
    grouped, paper = (arguments.runs / name for name, _ in _protocols(arguments))
    places = {"study": grouped, "other": paper, "manifest": arguments.manifest}
    place = argparse.Namespace(**places, imagenet_weights=arguments.imagenet_weights)
    with at_hand(place, *places) as local:
        write_and_tell(local.study, local.manifest, local.other, local.imagenet_weights)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError("Expected --name of letters, digits, '.', '_' and '-'.", received=repr(name))


def _imagenet(strategies: tuple[str, ...], profile: Profile, named: Path | None) -> Any:
    """The ImageNet weights, before anything is trained; `None` when no strategy needs them."""
    from cxr_platform.models.weights import find_weights, load_backbone_weights
    from cxr_platform.storage.mirror import local_file

    if not any(strategy_by_name(name).pretrained for name in strategies):
        return None
    with ExitStack() as held:
        path = find_weights(profile.model.alpha, held.enter_context(local_file(named)) if named else None)
        print(f"ImageNet weights: {path}")
        return load_backbone_weights(path, profile.model.alpha)


def _take_devices(engine: str, profile: Profile) -> None:
    from cxr_platform.training.devices import hide_gpus, limit_process

    if engine == "local":
        limit_process(profile.resources.cpu, 1.0)
    else:
        hide_gpus()


def _engine(arguments: argparse.Namespace) -> Any:
    if arguments.engine == "local":
        from cxr_platform.training import engine_local

        return engine_local.run
    from cxr_platform.training.engine_ray import RayEngine

    return RayEngine(arguments.ray_address)


if __name__ == "__main__":
    raise SystemExit(main())
