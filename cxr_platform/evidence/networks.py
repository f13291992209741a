"""The trained networks of a study's trials, and their predictions for images that they have not seen."""

from collections.abc import Iterable, Iterator

import numpy as np

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StudyError
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH, pad
from cxr_platform.models.initial_weights import set_initial_weights
from cxr_platform.models.mobilenet import Network, build_network
from cxr_platform.training.inputs import ImageInputs
from cxr_platform.training.trial import softmax


def fold_networks(
    workspace: Workspace, strategy: str, folds: Iterable[int] | None = None
) -> Iterator[tuple[int, Network]]:
    """(fold, network) for `folds` (default: every fold) of `strategy`. One network is built and filled anew: use it
    before the next.

    Raises `WeightsError` where ImageNet weights are needed and not to be had, `StudyError` for a trial without weights.
    """
    network = build_network(strategy_by_name(strategy), workspace.profile.model)
    set_initial_weights(network, 0, workspace.imagenet if network.strategy.pretrained else None)
    for fold in range(workspace.study.folds) if folds is None else folds:
        _load(workspace, network, TrialKey(strategy, fold))
        yield fold, network


def predict_images(network: Network, images: np.ndarray, workspace: Workspace) -> np.ndarray:
    """Probabilities (N, 7) float32 for uint8 images (N, S, S), as the trial itself predicts."""
    inputs = ImageInputs(images, workspace.profile.augmentation)
    parts = []
    for start in range(0, len(images), BATCH):
        rows = np.arange(start, min(start + BATCH, len(images)))
        batch = to_network_input(*inputs.clean_batch(pad(rows, BATCH)))
        logits = np.asarray(network.full.predict_on_batch(batch), "float64")[: len(rows)]
        parts.append(softmax(logits))
    return np.concatenate(parts).astype("float32")


def _load(workspace: Workspace, network: Network, key: TrialKey) -> None:
    path = workspace.folder.trial_folder(key) / "model.weights.h5"
    try:
        network.upper.load_weights(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"Expected the weights of trial {key} at {path}.",
            received=error,
            advice="Remove the trial's folder and run the same cross_validate command again.",
        ) from error
