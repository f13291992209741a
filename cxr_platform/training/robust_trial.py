"""One trial of `robust`: a head solved on frozen features of the views of images, in one step instead of epochs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import RobustConfig
from cxr_platform.errors import NotPossible
from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import Network
from cxr_platform.models.robust_network import build_robust_network, gate_margins, has_gate, indeterminate_answers
from cxr_platform.training.data import ViewImages
from cxr_platform.training.robust_head import CONTRAST, LinearHead, fit_head, fitting_rows, within_origins
from cxr_platform.training.trial import Epoch, TrialResult, Workbench, batch_outputs, softmax

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """Frozen features (M, V, F) float16 of `ViewImages`, in their order."""

    values: Array


@dataclass(frozen=True, eq=False)
class RobustTrialData:
    """Features, labels and origins (M,) of study and contrast images; `train` and `test` are row numbers."""

    features: ViewFeatures
    labels: Array
    origins: Array
    train: Array
    test: Array


def robust_trial_data(images: ViewImages, features: ViewFeatures, fold: int, config: RobustConfig) -> RobustTrialData:
    """Return what the trial of `fold` is fitted to and tested on; contrast images are never tested.

    Raise `NotPossible` if no head can be fitted to the other folds.
    """
    train = robust_training_rows(images, fold, config)
    test = images.rows_of_fold(fold)
    test = test[images.labels[test] != CONTRAST]
    return RobustTrialData(features, images.labels, images.origins, train, test)


def robust_training_rows(images: ViewImages, fold: int, config: RobustConfig) -> Array:
    """Return the row numbers of the images that the trial of `fold` is fitted to.

    Raise `NotPossible` if no head can be fitted to the other folds.
    """
    train = fitting_rows(images.labels, images.origins, images.rows_outside(fold), config)
    if train is None and config.gate:
        raise _no_second_head(images.origins[images.rows_outside(fold)])
    if train is None:
        where = " of one origin" if config.last_layer == "within" else ""
        without = (
            f"outside fold {fold}" if images.origin_folds is None else f"without {images.origin_folds.origins[fold]}"
        )
        raise NotPossible(
            f"Expected images with Covid19 and others{where} {without} to fit the head of robust to.",
            received=f"origins {', '.join(np.unique(images.origins))}",
            advice="Add such images, or leave robust out of the strategies.",
        )
    return train


def run_robust_trial(
    bench: Workbench,
    config: RobustConfig,
    data: RobustTrialData,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> TrialResult:
    """Solve the head on `data.train`, predict `data.test`, and return what a trial of another strategy does.

    The history is one row: loss and accuracy on the training images, contrast images left out.
    """
    began = time.perf_counter()
    network = build_robust_network(bench.model, config, bench.imagenet)
    set_up = time.perf_counter()
    head = network.full.get_layer("head_logits")
    head.set_weights([array for one in solved_heads(data, config, seed) for array in (one.weights, one.bias)])
    labelled = data.train[data.labels[data.train] != CONTRAST]
    fitted = _probabilities(network.upper, data.features, labelled)
    right = fitted[np.arange(len(labelled)), data.labels[labelled]]
    loss = float(-np.log(np.maximum(right, np.finfo("float32").tiny)).mean())
    accuracy = float((fitted.argmax(axis=1) == data.labels[labelled]).mean())
    predicting = time.perf_counter()
    epoch = Epoch(1, 1, loss, accuracy, 0.0, predicting - set_up)
    on_epoch(epoch)
    probabilities = _probabilities(network.upper, data.features, data.test).astype("float32")
    indeterminate = indeterminate_answers(network, _flat(data.features, data.test)) if config.gate else None
    now = time.perf_counter()
    seconds = {"total": now - began, "earlier": 0.0, "set_up": set_up - began, "prediction": now - predicting}
    return TrialResult(probabilities, [epoch], seconds, network, indeterminate)


def solved_heads(data: RobustTrialData, config: RobustConfig, seed: int) -> list[LinearHead]:
    """Return the head on the features (V · F) of all views, and with `gate` a second one.

    A view has a head of its own; their scores are averaged. Raise `NotPossible` if the second one cannot be fitted.
    """
    heads = [_solved(data, data.train, config, seed)]
    if config.gate:
        within = within_origins(config)
        rows = fitting_rows(data.labels, data.origins, data.train, within)
        if rows is None:
            raise _no_second_head(data.origins[data.train])
        heads.append(_solved(data, rows, within, seed))
    return heads


def _no_second_head(origins: Array) -> NotPossible:
    return NotPossible(
        "Expected an origin that has Covid19 and other images among the training images, for gate = true.",
        received=f"origins {', '.join(np.unique(origins))}, none of which has both",
        advice="Add a collection that has both, or set gate = false under [robust].",
    )


def _solved(data: RobustTrialData, rows: Array, config: RobustConfig, seed: int) -> LinearHead:
    views = data.features.values.shape[1]
    labels, origins = data.labels[rows], data.origins[rows]
    heads = [fit_head(data.features.values[rows, view], labels, origins, config, seed) for view in range(views)]
    weights = np.concatenate([head.weights for head in heads]) / views
    return LinearHead(weights, np.mean([head.bias for head in heads], axis=0))


def _probabilities(upper: keras.Model, features: ViewFeatures, rows: Array) -> Array:
    """Return probabilities (len(rows), 7) by the network above the features."""
    if not len(rows):  # of a champion, no image is tested
        return np.zeros((0, len(CLASSES)))
    return softmax(keras.ops.convert_to_numpy(upper(_flat(features, rows))).astype("float64"))


def _flat(features: ViewFeatures, rows: Array) -> Array:
    """Return (len(rows), V · F): the features of the views side by side. A champion's rows to test are none."""
    _, views, width = features.values.shape
    return features.values[rows].reshape(len(rows), views * width).astype("float32")


def indeterminate_images(network: Network, images: Array) -> Array | None:
    """Return where (N,) the heads of a gate disagree on views (N, V, S, S) of images; `None` without a gate."""
    return _at_gate(network, images, indeterminate_answers) if has_gate(network) else None


def image_gate_margins(network: Network, images: Array) -> Array:
    """Return the `gate_margins` (N, 2) of a network with a gate on views (N, V, S, S) of images."""
    return _at_gate(network, images, gate_margins)


def _at_gate(network: Network, images: Array, answers: Callable[[Network, Array], Array]) -> Array:
    features = keras.Model(network.full.input, network.full.get_layer("features").output)
    return np.concatenate([answers(network, each) for each in batch_outputs(features, images)])
