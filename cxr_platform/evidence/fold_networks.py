"""The trained networks of a study's trials, and their predictions for other images."""

from collections.abc import Iterable, Iterator

import numpy as np

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH, pad
from cxr_platform.models.initial_weights import set_initial_weights
from cxr_platform.models.mobilenet import Network, build_network
from cxr_platform.training.inputs import ImageInputs, clean_batch
from cxr_platform.training.trial import softmax


def fold_networks(
    opened: OpenStudy, strategy: str, folds: Iterable[int] | None = None
) -> Iterator[tuple[int, Network]]:
    """Yield (fold, network) for `folds` (default: all) of `strategy`.

    All are the same network object with new weights: use one before taking the next. Raise `WeightsError` if ImageNet
    weights are needed and cannot be found, `StudyError` for a trial without weights.
    """
    network = build_network(strategy_by_name(strategy), opened.profile.model)
    set_initial_weights(network, 0, opened.imagenet if network.strategy.pretrained else None)
    for fold in range(opened.study.folds) if folds is None else folds:
        _load(opened, network, TrialKey(strategy, fold))
        yield fold, network


def predict_images(network: Network, images: Array, opened: OpenStudy) -> Array:
    """Return probabilities (N, 7) float32 of uint8 images (N, S, S), with the inputs of a trial's own prediction."""
    inputs = ImageInputs(images, opened.profile.augmentation)
    parts = []
    for start in range(0, len(images), BATCH):
        rows = np.arange(start, min(start + BATCH, len(images)))
        batch = to_network_input(*clean_batch(inputs, pad(rows, BATCH)))
        logits = np.asarray(network.full.predict_on_batch(batch), "float64")[: len(rows)]
        parts.append(softmax(logits))
    probabilities: Array = np.concatenate(parts).astype("float32")
    return probabilities


def _load(opened: OpenStudy, network: Network, key: TrialKey) -> None:
    path = opened.folder.trial_folder(key) / "model.weights.h5"
    try:
        network.upper.load_weights(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"Expected the weights of trial {key} at {path}.",
            received=error,
            advice="Remove the trial's folder and run the same cross_validate command again.",
        ) from error
