"""Train the champion on all images of a study and put it into the registry, with the study's out-of-fold figures.

    python -m pipelines.champion --study runs/NAME [--strategy scratch] [--registry registry]

Interrupted, the same command continues. Where the registry has no champion yet, the new version is promoted at once.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.champion.facts import TARGET_SENSITIVITY, check_strategy, out_of_fold
from pipelines.command import run_command
from pipelines.job_metrics import add_metrics_arguments, metrics_job
from pipelines.opened_study import add_study_arguments, open_study
from pipelines.places import a_place, at_hand

if TYPE_CHECKING:
    from cxr_platform.champion.assemble import Assembled
    from cxr_platform.champion.facts import OutOfFold
    from cxr_platform.champion.material import ChampionMaterial
    from cxr_platform.evidence.workspace import Workspace
    from cxr_platform.progress import Progress
    from cxr_platform.registry.store import Registry
    from cxr_platform.training.champion import ChampionRun

REGISTRY = Path("registry")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 for what cannot be served, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _with_places(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr champion", description=__doc__.split("\n")[0])
    add_study_arguments(parser)
    parser.add_argument("--strategy", default="scratch", help="one of the study's strategies (default: scratch)")
    parser.add_argument("--registry", type=a_place, default=REGISTRY, help="folder or URI (default: registry)")
    parser.add_argument(
        "--sensitivity",
        type=_share,
        default=TARGET_SENSITIVITY,
        help=f"that the threshold aims at, 0 to 1 ({TARGET_SENSITIVITY})",
    )
    parser.add_argument("--ray-address", help="a running Ray cluster; without it this machine alone")
    add_metrics_arguments(parser)
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and to 1, not {text}")
    return value


def _with_places(arguments: argparse.Namespace) -> int:
    """The champion's run is in the study's own place, where all nodes see its checkpoints."""
    with at_hand(arguments, "study", "manifest") as local:
        _run(local, arguments.study / "champion")
    return 0


def _run(arguments: argparse.Namespace, run_folder: Path) -> None:
    from cxr_platform.champion.material import ChampionMaterial
    from cxr_platform.monitoring.batch import champion_counts
    from cxr_platform.training.devices import hide_gpus
    from pipelines.progress import make_progress

    hide_gpus()  # training has them, in workers of its own
    with metrics_job("champion", arguments.study.name, arguments) as job, make_progress(sys.stderr) as progress:
        opened = open_study(arguments.study, arguments.manifest, arguments.imagenet_weights, progress.step)
        check_strategy(opened.study, arguments.strategy)
        progress.message("Computing the out-of-fold figures")
        facts = out_of_fold(opened.study, opened.predictions, arguments.strategy, arguments.sensitivity)
        run = _train(arguments, run_folder, opened, progress)
        material = ChampionMaterial(
            opened.folder.root, opened.study, opened.predictions, opened.profile, opened.manifest, opened.data, run
        )
        assembled, outcome = _register(arguments, material, facts, progress)
        trained = assembled.bundle.training
        accuracy = assembled.bundle.metrics["accuracy_7_class"].value
        champion_counts(job, arguments.strategy, trained.images, trained.epochs, accuracy)
    _tell(assembled, facts)
    print(outcome)


def _register(
    arguments: argparse.Namespace, material: "ChampionMaterial", facts: "OutOfFold", progress: "Progress"
) -> tuple["Assembled", str]:
    """A registry in a store is held only now: others may use it for the hours that training takes."""
    from cxr_platform.champion.assemble import assemble
    from cxr_platform.registry.store import Registry

    with at_hand(arguments, "registry") as local:
        registry = Registry(local.registry)
        assembled = assemble(material, facts, registry, progress.message)
        outcome = _promote_or_advise(registry, arguments.registry, assembled.bundle.version)
    return assembled, outcome


def _train(arguments: argparse.Namespace, folder: Path, opened: "Workspace", progress: "Progress") -> "ChampionRun":
    from cxr_platform.training.champion import ChampionRequest, read_champion, train_champion

    request = ChampionRequest(
        folder=folder,
        strategy=arguments.strategy,
        profile=opened.profile,
        manifest=opened.manifest,
        imagenet_weights=arguments.imagenet_weights,
        ray_address=arguments.ray_address,
        on_epoch=lambda epoch: progress.step("Training the champion", epoch.epoch, epoch.epochs),
        on_note=progress.message,
    )
    return read_champion(train_champion(request))


def _tell(assembled: "Assembled", facts: "OutOfFold") -> None:
    from cxr_platform.champion.model_card import model_card_head
    from cxr_platform.champion.model_card_tables import figures_table
    from cxr_platform.evaluation.table import to_markdown

    print(model_card_head(assembled.model_card))
    print()
    print(to_markdown(figures_table(facts)))


def _promote_or_advise(registry: "Registry", folder: Path, version: str) -> str:
    from cxr_platform.registry.promotion import promote

    if registry.champion() is None:
        promote(registry, version, lead_seconds=0.0)
        return f"{folder / version}\n{version} is the champion: the registry had none."
    elsewhere = "" if folder == REGISTRY else f" --registry {folder}"
    advice = f"To replace it: cxr registry promote {version}{elsewhere}"
    return f"{folder / version}\n{registry.champion()} remains the champion. {advice}"


if __name__ == "__main__":
    raise SystemExit(main())
