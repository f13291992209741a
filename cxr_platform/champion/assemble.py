"""Assembly of a bundle from a study and its champion: the next version of the registry."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr_platform.champion.export import (
    champion_network,
    evenly_spaced_rows,
    export_onnx,
    measure_parity,
    onnx_answers,
)
from cxr_platform.champion.model_card import model_card, reported_limits
from cxr_platform.champion.out_of_fold import OutOfFold
from cxr_platform.config import Profile, View
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import StudyRecord
from cxr_platform.errors import StudyError, StudyMismatch
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.report_inputs import manifest_images
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.manifest.store import Manifest
from cxr_platform.monitoring.reference import Reference, build_reference
from cxr_platform.registry.bundle import (
    MODEL_CARD,
    ONNX,
    REFERENCE,
    WEIGHTS,
    Bundle,
    Parity,
    Preprocessing,
    StudySummary,
    TrainingSummary,
)
from cxr_platform.registry.store import Registry
from cxr_platform.storage.mirror import local_file

if TYPE_CHECKING:
    from cxr_platform.training.champion import Champion
    from cxr_platform.training.data import StudyData
    from cxr_platform.training.image_files import ImageFile

REFERENCE_COLUMNS = {"brightness": "mean", "contrast": "std", "padding": "padding_fraction"}
"""Quantity of the reference statistics → the manifest's column."""


@dataclass(frozen=True, eq=False)
class ChampionInputs:
    """A finished study in `folder`, its manifest, and the champion trained on all images of the study.

    `data` are the images in the order of the manifest, at the network's input size.
    """

    folder: Path
    study: StudyRecord
    predictions: Predictions
    profile: Profile
    manifest: Manifest
    data: "StudyData"
    champion: "Champion"

    @property
    def strategy(self) -> str:
        """Strategy of the champion."""
        return self.champion.record.strategy

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the manifest's images; its settings may differ from those of the study's profile."""
        config, size = self.manifest.info.config, self.profile.model.input_size
        return Preprocessing(
            decoding=config.decoding,
            quality=config.quality,
            frontal_only=config.selection.frontal_only,
            input_size=size,
            views=self.views,
        )

    @property
    def views(self) -> tuple[View, ...] | None:
        """Views of an image that the network gets, `None` if it gets the image as a whole."""
        return self.profile.robust.views if strategy_by_name(self.strategy).is_solved else None

    def network_images(self) -> "Array | ImageFile":
        """Return what the network gets of the images in `data`: these (N, S, S), or views of them (N, V, S, S)."""
        if self.views is None:
            return self.data.images
        from cxr_platform.training.data import load_view_images

        size = self.profile.model.input_size
        images = load_view_images(self.manifest, self.study.protocol, size, self.views).images
        return images[: len(self.data.labels)]  # contrast images come last

    def check(self, strategy: str) -> None:
        """Raise `StudyMismatch` for a champion of another strategy, or of another manifest than the study's."""
        wanted = {"strategy": strategy, "manifest": self.study.manifest.content_hash}
        received = {key: self.champion.record.identity[key] for key in wanted}
        if wanted != received:
            raise StudyMismatch(
                f"Expected a champion of {strategy}, trained on the images of study {self.study.name!r}, manifest "
                f"{wanted['manifest']}.",
                received=f"one of {received['strategy']}, manifest {received['manifest']}",
                advice="Remove the champion's folder and run the same command again.",
            )


@dataclass(frozen=True, eq=False)
class AssembledBundle:
    """The bundle of the new version, before its files were hashed, and its model card."""

    bundle: Bundle
    model_card: str


def assemble(
    inputs: ChampionInputs,
    performance: OutOfFold,
    registry: Registry,
    on_message: Callable[[str], None] = lambda _: None,
) -> AssembledBundle:
    """Add a bundle of `inputs`, with the out-of-fold `performance` of its strategy, to `registry`.

    The champion of the registry stays the same. Raise `StudyMismatch` if the inputs do not belong together,
    `BundleError` if the exported graph differs from the network; then the registry is unchanged.
    """
    inputs.check(performance.strategy)
    assembled: list[AssembledBundle] = []

    def fill(folder: Path, version: str) -> Bundle:
        with local_file(inputs.champion.weights) as weights:
            shutil.copyfile(weights, folder / WEIGHTS)
        on_message("Exporting the network to ONNX")
        network = champion_network(
            inputs.strategy, inputs.profile.model, folder / WEIGHTS, robust=inputs.profile.robust
        )
        export_onnx(network, folder / ONNX)
        images = inputs.network_images()
        sample = images[evenly_spaced_rows(len(images))]
        parity = measure_parity(network, folder / ONNX, sample, performance.temperature)
        on_message("Computing the reference statistics")
        _, features = onnx_answers(folder / ONNX, images)
        groups, seed = inputs.data.group_ids, study_seed(inputs.study)
        champion_reference(performance.probabilities, inputs.manifest, features, groups, seed).write(folder / REFERENCE)
        bundle = _bundle(version, inputs, performance, parity)
        facts, limits = manifest_images(inputs.manifest).facts, reported_limits(inputs.folder, performance.results)
        text = model_card(bundle, performance, inputs.predictions, facts, limits)
        (folder / MODEL_CARD).write_text(text, encoding="utf-8")
        assembled.append(AssembledBundle(bundle, text))
        return bundle

    registry.add(fill)
    return assembled[-1]


def champion_reference(
    probabilities: Array, manifest: Manifest, features: Array, groups: Array, seed: int
) -> Reference:
    """Return the reference statistics of a champion.

    `probabilities` (N, 7) are out-of-fold and calibrated; `features` (M, F) are the champion's for the study's images
    in `manifest`, and `groups` (M,) their patients. Raise `BundleError` for images of a single patient.

    The champion was trained on these images, but their distances are not smaller for that: measured with a network
    trained from scratch (96 px, two thirds of 3,376 images of the public sources), the median distance is 33.2 on its
    training images and 33.4 on the other patients, of which 0.3 % to 0.5 % are beyond the limit of one in a thousand.
    """
    table = manifest.table(["role", *REFERENCE_COLUMNS.values()])
    study = np.array(table["role"].to_pylist()) == "study"
    quantities = {quantity: table[column].to_numpy()[study] for quantity, column in REFERENCE_COLUMNS.items()}
    return build_reference(
        confidence=probabilities.max(axis=1),
        covid19=probabilities[:, POSITIVE],
        labels=probabilities.argmax(axis=1),
        features=features,
        groups=groups,
        seed=seed,
        **quantities,
    )


def _majority(performance: OutOfFold) -> float:
    accuracy = performance.results.majority_accuracy
    if accuracy is None:
        raise StudyError("Expected predictions of the study.", received="none")
    return accuracy


def _bundle(version: str, inputs: ChampionInputs, performance: OutOfFold, parity: Parity) -> Bundle:
    study, record = inputs.study, inputs.champion.record
    return Bundle(
        version=version,
        created=datetime.now(timezone.utc).replace(microsecond=0),
        synthetic=study.manifest.synthetic,
        study=StudySummary(
            name=study.name,
            protocol=study.protocol,
            manifest_hash=study.manifest.content_hash,
            images=performance.results.images,
            majority_accuracy=_majority(performance),
            folds=study.folds,
            profile=inputs.profile.name,
            winner=performance.results.decision.winner,
            strategies=study.strategies,
        ),
        strategy=inputs.strategy,
        labels=CLASSES,
        positive_class=POSITIVE_CLASS,
        preprocessing=inputs.preprocessing,
        model=inputs.profile.model,
        temperature=performance.temperature,
        operating_point=performance.operating_point,
        prediction_sets=performance.prediction_sets,
        metrics=dict(performance.measures.pooled),
        training=TrainingSummary(
            images=record.images.train,
            epochs=record.epochs,
            seconds=record.seconds.total,
            seed=record.identity["seed"],
            backend=record.backend,
            precision=record.precision,
            hardware=record.hardware,
            versions=record.versions,
        ),
        parity=parity,
    )
