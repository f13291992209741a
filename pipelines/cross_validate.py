"""Run every strategy × fold of a study over a manifest, then write the report.

    python -m pipelines.cross_validate --manifest data/manifests/NAME --name NAME --profile quick

Interrupted, the same command continues. `--engine local` runs the same trials in this process without Ray.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr_platform.config import Profile, Protocol, load_profile
from cxr_platform.errors import ConfigError, TrialsFailed
from cxr_platform.models.strategies import strategy_by_name
from cxr_platform.training.plan import StudyPlan, parse_strategies
from pipelines.arguments import add_profile_arguments, profile_overrides
from pipelines.command import run_command
from pipelines.job_metrics import add_metrics_arguments, count_study, metrics_job


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 when trials failed, 2 when the request cannot be served, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr cross-validate", description=__doc__.split("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="folder of the manifest")
    parser.add_argument("--name", required=True, help="name of the study; its folder is RUNS/NAME")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all studies")
    parser.add_argument("--protocol", choices=("grouped", "paper", "both"), default="grouped")
    parser.add_argument("--strategies", default="all", help="names separated by commas, or all")
    parser.add_argument("--engine", choices=("ray", "local"), default="ray")
    parser.add_argument("--ray-address", help="a running Ray cluster; without it this machine alone")
    parser.add_argument("--imagenet-weights", type=Path, help="a published MobileNetV2 file, if it is at hand")
    parser.add_argument("--no-report", action="store_true", help="stop after the pooled predictions")
    add_profile_arguments(parser)
    add_metrics_arguments(parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.manifest.store import open_manifest

    profile = load_profile(arguments.profile, profile_overrides(arguments))
    strategies = parse_strategies(arguments.strategies)
    _check_name(arguments.name)
    manifest = open_manifest(arguments.manifest)
    _take_devices(arguments.engine, profile)
    imagenet = _imagenet(strategies, profile, arguments.imagenet_weights)
    failed = []
    for name, protocol in _protocols(arguments):
        try:
            _run_protocol(arguments, manifest, StudyPlan(name, protocol, strategies, profile, {}), imagenet)
        except TrialsFailed as error:  # the other protocol is still worth its run
            failed.append(error)
    if arguments.protocol == "both":
        _report(arguments, arguments.runs / arguments.name)  # again, now that there is something to compare it with
    if failed:
        raise failed[0]
    return 0


def _protocols(arguments: argparse.Namespace) -> list[tuple[str, Protocol]]:
    """Names and protocols of the studies: with `both`, the paper's beside the grouped one."""
    if arguments.protocol == "both":
        return [(arguments.name, "grouped"), (f"{arguments.name}-paper", "paper")]
    return [(arguments.name, arguments.protocol)]


def _run_protocol(arguments: argparse.Namespace, manifest: Any, request: StudyPlan, imagenet: Any) -> None:
    from cxr_platform.training.data import load_study_data
    from cxr_platform.training.folder import StudyFolder
    from cxr_platform.training.progress import make_progress
    from cxr_platform.training.study import Study, run_study

    profile = request.profile
    data = load_study_data(manifest, request.protocol, profile.folds, profile.model.input_size)
    plan = replace(request, manifest=_manifest_facts(manifest, len(data.labels)))
    study = Study(plan, StudyFolder(arguments.runs / plan.name), data, imagenet)
    films, strategies = len(data.labels), len(plan.strategies)
    print(f"Study {plan.name}: {films} films, {strategies} strategies × {profile.folds} folds, {plan.protocol}")
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

    folder = StudyFolder(root)
    strategies = folder.description()["strategies"]
    if not arguments.no_report and folder.complete(strategies, folder.description()["folds"]) == strategies:
        write_and_tell(folder.root, arguments.manifest, imagenet_weights=arguments.imagenet_weights)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError("Expected --name of letters, digits, '.', '_' and '-'.", received=repr(name))


def _imagenet(strategies: tuple[str, ...], profile: Profile, named: Path | None) -> Any:
    """The ImageNet weights, before anything is trained; `None` when no strategy needs them."""
    from cxr_platform.models.weights import find_weights, load_backbone_weights

    if not any(strategy_by_name(name).pretrained for name in strategies):
        return None
    path = find_weights(profile.model.alpha, named)
    print(f"ImageNet weights: {path}")
    return load_backbone_weights(path, profile.model.alpha)


def _take_devices(engine: str, profile: Profile) -> None:
    from cxr_platform.training.devices import hide_cards, limit_process

    if engine == "local":
        limit_process(profile.resources.cpu, 1.0)
    else:
        hide_cards()


def _engine(arguments: argparse.Namespace) -> Any:
    if arguments.engine == "local":
        from cxr_platform.training import engine_local

        return engine_local.run
    from cxr_platform.training.engine_ray import RayEngine

    return RayEngine(arguments.ray_address)


def _manifest_facts(manifest: Any, study_images: int) -> dict[str, Any]:
    info = manifest.info
    kept = ("content_hash", "images", "synthetic", "counts", "excluded", "found")
    facts = {key: info[key] for key in kept if key in info}
    return {"path": manifest.folder.name, "study_images": study_images, **facts}


if __name__ == "__main__":
    raise SystemExit(main())
