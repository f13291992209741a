"""Train the champion on all images of a study and add it to the registry, with the study's out-of-fold figures.

    cxr champion --study runs/NAME --strategy scratch --registry registry

An interrupted training is continued by the same command. The first version of a registry becomes its
champion at once, if the study shows it to be better than always naming the most frequent class.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.champion.out_of_fold import TARGET_SENSITIVITY, check_strategy, out_of_fold
from cxr_platform.errors import PromotionRefused
from pipelines.command import run_command
from pipelines.local_study import local_copies, manifest_of_nodes, open_study
from pipelines.options import (
    REGISTRY,
    MetricsOptions,
    StudyRequest,
    add_metrics_options,
    add_study_options,
    location,
    parse_request,
)
from pipelines.progress import make_progress

if TYPE_CHECKING:
    from cxr_platform.registry.store import Registry


@dataclass(frozen=True, kw_only=True)
class ChampionRequest(StudyRequest):
    """The study's strategy to train, the registry to add it to, and the sensitivity that its threshold aims at."""

    strategy: str
    registry: Path
    sensitivity: float
    ray_address: str | None
    metrics: MetricsOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 2 for a request that cannot be run, 130 when interrupted."""
    return run_command(lambda: run(parse_request(ChampionRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr champion`."""
    parser = argparse.ArgumentParser(
        prog="cxr champion", description="Train the champion on all images of a study and add it to the registry."
    )
    add_study_options(parser)
    parser.add_argument("--strategy", default="scratch", help="one of the study's strategies (default: scratch)")
    parser.add_argument("--registry", type=location, default=REGISTRY, help="folder or URI (default: registry)")
    parser.add_argument(
        "--sensitivity",
        type=_fraction,
        default=TARGET_SENSITIVITY,
        help=f"sensitivity that the threshold aims at, above 0 and up to 1 (default: {TARGET_SENSITIVITY})",
    )
    parser.add_argument("--ray-address", help="address of a Ray cluster (default: this machine alone)")
    add_metrics_options(parser)
    return parser


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and up to 1, not {text}")
    return value


def run(request: ChampionRequest) -> int:
    """Train and register the champion, and print the head of its model card; return 0."""
    from cxr_platform.champion.assemble import ChampionInputs, assemble
    from cxr_platform.champion.model_card import metrics_table, model_card_head
    from cxr_platform.evaluation.table import to_markdown
    from cxr_platform.monitoring.job_metrics import champion_counts
    from cxr_platform.registry.store import Registry
    from cxr_platform.training.champion import champion_profile, train_champion
    from cxr_platform.training.devices import hide_gpus

    hide_gpus()  # they are for the training workers
    with (
        local_copies(request, "study", "manifest") as local,
        request.metrics.job("champion", request.study.name) as job,
        make_progress(sys.stderr) as progress,
    ):
        study = open_study(local, progress)
        check_strategy(study.study, request.strategy)
        profile = champion_profile(study.study)
        progress.message("Computing the out-of-fold figures")
        facts = out_of_fold(study.study, study.predictions, request.strategy, request.sensitivity)
        # Checkpoints go to the study's own place, which all nodes see, not to the local copy.
        trained = train_champion(
            request.study,
            request.strategy,
            profile,
            manifest_of_nodes(request, study.manifest),
            imagenet_weights=local.imagenet_weights,
            ray_address=request.ray_address,
            progress=progress,
        )
        material = ChampionInputs(
            study.folder.root, study.study, study.predictions, study.profile, study.manifest, study.data, trained
        )
        with local_copies(local, "registry") as held:  # only now: training may take hours
            registry = Registry(held.registry)
            assembled = assemble(material, facts, registry, progress.message)
            outcome = _promote_first(registry, request.registry, assembled.bundle.version)
        training = assembled.bundle.training
        accuracy = assembled.bundle.metrics["accuracy_7_class"].value
        champion_counts(job, request.strategy, training.images, training.epochs, accuracy)
    print(model_card_head(assembled.model_card))
    print()
    print(to_markdown(metrics_table(facts)))
    print(outcome)
    return 0


def _promote_first(registry: "Registry", place: Path, version: str) -> str:
    """Promote `version` if the registry has no champion; return a message with what happened or what to do."""
    from cxr_platform.registry.promotion import promote

    champion = registry.champion()
    option = "" if place == REGISTRY else f" --registry {place}"
    if champion is None:
        try:
            promote(registry, version, lead_seconds=0.0)
        except PromotionRefused as refusal:
            command = f"cxr registry promote {version} --force{option}"
            return f"{place / version}\n{version} is not the champion. {refusal}\nTo serve it all the same: {command}"
        return f"{place / version}\n{version} is the champion: the registry had none."
    return f"{place / version}\n{champion} remains the champion. To replace it: cxr registry promote {version}{option}"


if __name__ == "__main__":
    raise SystemExit(main())
