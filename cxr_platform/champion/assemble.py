"""One bundle out of a study and its champion, put into the registry as its next version."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cxr_platform.champion.export import champion_network, export_onnx, onnx_answers
from cxr_platform.champion.facts import OutOfFold
from cxr_platform.champion.material import ChampionMaterial
from cxr_platform.champion.model_card import model_card
from cxr_platform.champion.parity import measure_parity, spread_out
from cxr_platform.champion.reference import champion_reference
from cxr_platform.champion.reported import reported
from cxr_platform.domain.operating_point import OperatingPoint
from cxr_platform.evaluation.report_inputs import manifest_images
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.registry.bundle import (
    MODEL_CARD,
    ONNX,
    REFERENCE,
    WEIGHTS,
    Bundle,
    Parity,
    StudySummary,
    TrainingSummary,
)
from cxr_platform.registry.store import Registry
from cxr_platform.storage.mirror import local_file

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Assembled:
    """The new version's bundle, as it was described before its files were hashed, and its model card."""

    bundle: Bundle
    model_card: str


def assemble(material: ChampionMaterial, facts: OutOfFold, registry: Registry, say: Say = lambda _: None) -> Assembled:
    """Add the bundle of `material`, with the out-of-fold `facts` of its strategy, to `registry`; it is not the champion
    by that.

    Raises `StudyMismatch` where the parts do not belong together, `BundleError` where the exported graph does not
    answer as the network does. Then the registry is as it was.
    """
    material.check(facts.strategy)
    made: list[Assembled] = []

    def fill(folder: Path, version: str) -> Bundle:
        made.append(_fill(folder, version, material, facts, say))
        return made[-1].bundle

    registry.add(fill)
    return made[-1]


def _fill(folder: Path, version: str, material: ChampionMaterial, facts: OutOfFold, say: Say) -> Assembled:
    with local_file(material.champion.weights) as weights:
        shutil.copyfile(weights, folder / WEIGHTS)
    say("Exporting the network to ONNX")
    export_onnx(material.strategy, material.profile.model, folder / WEIGHTS, folder / ONNX)
    parity = _parity(folder, material, facts.temperature)
    say("Computing the reference statistics")
    _write_reference(folder, material, facts)
    bundle = _bundle(version, material, facts, parity)
    images = manifest_images(material.manifest).facts
    text = model_card(bundle, facts, material.predictions, images, reported(material.folder, facts.outcome))
    (folder / MODEL_CARD).write_text(text, encoding="utf-8")
    return Assembled(bundle, text)


def _parity(folder: Path, material: ChampionMaterial, temperature: float) -> Parity:
    network = champion_network(material.strategy, material.profile.model, folder / WEIGHTS)
    images = material.data.images[spread_out(len(material.data.images))]
    return measure_parity(network, folder / ONNX, images, temperature)


def _write_reference(folder: Path, material: ChampionMaterial, facts: OutOfFold) -> None:
    _, features = onnx_answers(folder / ONNX, material.data.images)
    groups, seed = material.data.group_ids, study_seed(material.study)
    reference = champion_reference(facts.probabilities, material.manifest, features, groups, seed)
    reference.write(folder / REFERENCE)


def _bundle(version: str, material: ChampionMaterial, facts: OutOfFold, parity: Parity) -> Bundle:
    return Bundle(
        version=version,
        created=datetime.now(timezone.utc).replace(microsecond=0),
        synthetic=material.study.manifest.synthetic,
        study=_study_summary(material, facts),
        strategy=material.strategy,
        labels=CLASSES,
        positive_class=POSITIVE_CLASS,
        preprocessing=material.preprocessing,
        model=material.profile.model,
        temperature=facts.temperature,
        operating_point=_operating_point(facts),
        metrics=dict(facts.measures.pooled),
        training=_training_summary(material),
        parity=parity,
    )


def _study_summary(material: ChampionMaterial, facts: OutOfFold) -> StudySummary:
    study = material.study
    return StudySummary(
        name=study.name,
        protocol=study.protocol,
        manifest_hash=study.manifest.content_hash,
        images=facts.outcome.images,
        folds=study.folds,
        profile=material.profile.name,
        winner=facts.outcome.decision.winner,
        strategies=study.strategies,
    )


def _operating_point(facts: OutOfFold) -> OperatingPoint:
    return OperatingPoint(
        target_sensitivity=facts.point.target,
        threshold=facts.threshold,
        zone=facts.zone,
        sensitivity=facts.point.sensitivity,
        specificity=facts.point.specificity,
        decisions=facts.decisions,
    )


def _training_summary(material: ChampionMaterial) -> TrainingSummary:
    record = material.champion.record
    return TrainingSummary(
        images=record.images.train,
        epochs=record.epochs,
        seconds=record.seconds.total,
        seed=record.identity["seed"],
        backend=record.backend,
        hardware=record.hardware,
        versions=record.versions,
    )
