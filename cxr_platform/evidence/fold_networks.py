"""The trained networks of a study's trials, and what they get of other images."""

from collections.abc import Iterable, Iterator

import numpy as np

from cxr_platform.domain.strategies import ROBUST, strategy_by_name
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.intake.lung_views import stacked_views
from cxr_platform.models.initial_weights import set_initial_weights
from cxr_platform.models.mobilenet import Network, build_network
from cxr_platform.models.robust_network import build_robust_network
from cxr_platform.training.devices import check_memory


def fold_networks(
    opened: OpenStudy, strategy: str, folds: Iterable[int] | None = None
) -> Iterator[tuple[int, Network]]:
    """Yield (fold, network) for `folds` (default: all) of `strategy`.

    All are the same network object with new weights: use one before taking the next. Raise `WeightsError` if ImageNet
    weights are needed and cannot be found, `StudyError` for a trial without weights.
    """
    network = _network(opened, strategy)
    for fold in range(opened.study.folds) if folds is None else folds:
        _load(opened, network, TrialKey(strategy, fold))
        yield fold, network


def _network(opened: OpenStudy, strategy: str) -> Network:
    model, chosen = opened.profile.model, strategy_by_name(strategy)
    if chosen.is_solved:
        return build_robust_network(model, opened.profile.robust, opened.imagenet)
    network = build_network(chosen, model)
    set_initial_weights(network, 0, opened.imagenet if chosen.pretrained else None)
    return network


def letterboxed_images(opened: OpenStudy, rows: Array, what: str) -> Array:
    """Return the manifest's images (N, s, s) at the True places of `rows`.

    Raises `NotPossible` if they, and what `images_for` makes of them, do not fit into memory; `what` names them.
    """
    count, size = np.count_nonzero(rows), opened.profile.model.input_size
    shown = len(opened.profile.robust.views) if ROBUST in opened.study.strategies else 1
    bytes_each = opened.manifest.image_size**2 + shown * size**2
    check_memory(count * bytes_each, f"{count:,} {what}", f"or a manifest with fewer {what}")
    return opened.manifest.pixels(rows)


def images_for(opened: OpenStudy, strategy: str, pixels: Array, widths: Array, heights: Array) -> Array:
    """Return what the networks of `strategy` get of letterboxed images (N, s, s) of files `widths` × `heights` large.

    Images (N, S, S) at the input's size, and for `robust` views of them (N, V, S, S).
    """
    size = opened.profile.model.input_size
    if strategy_by_name(strategy).is_solved:
        return stacked_views(opened.profile.robust.views, pixels, widths, heights, size)
    return resize_images(pixels, size)


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
