"""One trial: train a strategy on all folds but one, and predict that fold. Keras and NumPy only.

Nothing is chosen on the predicted fold: the number of epochs is fixed, and the last weights are used (§2.4).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import AugmentationConfig, ModelConfig, Precision, ScheduleConfig, TrainingConfig
from cxr_platform.domain.strategies import Strategy
from cxr_platform.labels import CLASSES
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH, pad
from cxr_platform.models.initial_weights import BackboneWeights, set_initial_weights
from cxr_platform.models.mobilenet import Network, build_network
from cxr_platform.training.inputs import ImageInputs, Index, Inputs, clean_batch, in_file_order, shuffled
from cxr_platform.training.step import ONE_PROCESSOR, Placement, Step, Steps, StepState, device_scope, make_step


@dataclass(frozen=True)
class Epoch:
    """One row of `history.parquet`: loss and accuracy on augmented training images, never those of the test fold."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Position:
    """State of a training between two epochs: all that the remaining epochs depend on."""

    state: StepState
    rng: Mapping[str, Any]
    history: Sequence[Epoch]


OnEpoch = Callable[[Epoch, Callable[[], Position]], None]
"""Called after each epoch with a function that returns the position, since copying it from a GPU takes time."""


@dataclass(frozen=True)
class TrialData:
    """Inputs and labels (N,) int of all study images; `train` and `test` are row numbers."""

    inputs: Inputs
    labels: NDArray[Any]
    train: NDArray[Any]
    test: NDArray[Any]


@dataclass(frozen=True)
class TrialResult:
    """Probabilities (len(test), 7) float32 in the order of `TrialData.test`, training history, and the trained network.

    `seconds` has the keys of `domain.study.TrialSeconds`. `indeterminate` (len(test),) bool are answers at a gate.
    """

    probabilities: NDArray[Any]
    history: list[Epoch]
    seconds: dict[str, float]
    network: Network
    indeterminate: NDArray[Any] | None = None


NETWORKS_KEPT = 2
"""Networks that a process keeps. Trials run strategy by strategy, so that an older one is rarely needed again."""


@dataclass
class Workbench:
    """Networks and compiled steps that one process reuses between trials.

    A trial has one device; the champion may have several.
    """

    model: ModelConfig
    training: TrainingConfig
    imagenet: BackboneWeights | None = None
    precision: Precision = "float32"
    placement: Placement = ONE_PROCESSOR
    _kept: dict[tuple[str, int], tuple[Network, Step]] = field(default_factory=dict, repr=False)

    def set_up(self, strategy: Strategy, seed: int, input_size: int | None = None) -> tuple[Network, Step]:
        """Return the network of `strategy` with initial weights and a new optimiser state; build it the first time.

        `input_size` is another side of the images than the profile's; the state of the step fits every side.
        """
        model = self.model if input_size is None else replace(self.model, input_size=input_size)
        key = strategy.name, model.input_size
        self.unload(but=key)
        if key not in self._kept:
            decay = self.training.schedule(strategy.family).weight_decay
            while len(self._kept) >= NETWORKS_KEPT:
                self._kept.pop(next(iter(self._kept)))
            with device_scope(self.placement.devices):
                network = build_network(strategy, model, self.precision)
                step = make_step(network, decay, self.training.label_smoothing, self.placement)
            self._kept[key] = network, step
        network, step = self._kept[key] = self._kept.pop(key)  # the one used last is the last to go
        set_initial_weights(network, seed, self.imagenet)
        step.reset()
        return network, step

    def unload(self, but: tuple[str, int] | None = None) -> None:
        """Free the memory of the inputs of all networks `but` one, by the name of its strategy and its input's side."""
        for key, (_, step) in self._kept.items():
            if key != but:
                step.unload()


def run_trial(
    bench: Workbench,
    strategy: Strategy,
    data: TrialData,
    seed: int,
    on_epoch: OnEpoch = lambda _epoch, _position: None,
    start: Position | None = None,
) -> TrialResult:
    """Train `strategy` on `data.train`, from the first epoch or from `start`, and predict `data.test`.

    The same arguments give the same result on the same hardware and number of threads, whatever `start` is. Of the
    seconds, `earlier` are those of the epochs before `start`; `total` includes them.
    """
    began = time.perf_counter()
    schedule = bench.training.schedule(strategy.family)
    rng, history = training_rng(seed), list(start.history) if start else []
    if start:
        rng.bit_generator.state = dict(start.rng)
    state = start.state if start else None
    set_up_seconds = 0.0
    for size, until in _stages(bench, schedule, len(data.train), len(history)):
        setting_up = time.perf_counter()
        network, step = bench.set_up(strategy, seed, size)
        if state is not None:
            step.restore(state)
        part = data if size is None else replace(data, inputs=data.inputs.resized(size))
        set_up_seconds += time.perf_counter() - setting_up
        for epoch in train(step, bench.training, schedule, part, rng, len(history), until):
            history.append(epoch)
            on_epoch(epoch, partial(_position, step, rng, history))
        if size is not None:
            state = step.state()
    predicting = time.perf_counter()
    probabilities = predict(step, data.inputs, data.test, bench.training.batch_size)
    step.sync()
    now = time.perf_counter()
    earlier = sum(epoch.seconds for epoch in start.history) if start else 0.0
    seconds = {
        "total": earlier + now - began,
        "earlier": earlier,
        "set_up": set_up_seconds,
        "prediction": now - predicting,
    }
    return TrialResult(probabilities, history, seconds, network)


def loss_fall(history: Sequence[Epoch], early: int = 0) -> float:
    """Return by how much the mean training loss fell from the third to the last quarter; 0 with a single epoch.

    Of fewer than eight epochs it is the last two. The `early` epochs, with smaller images, are left out: the loss also
    changes with the size.
    """
    losses = [epoch.loss for epoch in history[early:]]
    if len(losses) < 2:
        return 0.0
    quarter = max(1, len(losses) // 4)
    return float(np.mean(losses[-2 * quarter : -quarter]) - np.mean(losses[-quarter:]))


def trial_seed(seed: int, fold: int) -> int:
    """Return the seed of a trial: the same for every strategy of a fold, so that they differ in nothing else."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def learning_rates(schedule: ScheduleConfig, steps: int, warmup_fraction: float) -> NDArray[Any]:
    """Return learning rates (steps,) float: linear warm-up, then cosine decay to zero (Loshchilov & Hutter 2017)."""
    warmup = max(1, round(steps * warmup_fraction))
    rising = np.arange(1, warmup + 1) / warmup
    falling = 0.5 * (1 + np.cos(np.pi * np.arange(1, steps - warmup + 1) / max(1, steps - warmup)))
    rates: NDArray[Any] = schedule.learning_rate * np.concatenate([rising, falling])[:steps]
    return rates


def class_weights(labels: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return the weights (7,) float32 of the loss: ones, or inverse class frequencies with mean 1 over the images."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    if kind == "none":
        return np.ones(len(CLASSES), "float32")
    return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype("float32")


def predict(step: Step, inputs: Inputs, rows: NDArray[Any], batch_size: int) -> NDArray[Any]:
    """Return probabilities (len(rows), 7) float32; each row sums to 1."""
    if not len(rows):
        return np.zeros((0, len(CLASSES)), "float32")
    step.load(inputs)
    order = in_file_order(inputs, rows)
    batches = _batches(rows[order], batch_size)
    logits = step.logits(_in_batches(inputs.clean_index(batches.ravel()), batches.shape))
    probabilities = np.empty((len(rows), len(CLASSES)), "float32")
    probabilities[order] = softmax(logits.astype("float64").reshape(-1, len(CLASSES))[: len(rows)])
    return probabilities


def predict_images(network: Network, images: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities (N, 7) float32 of uint8 images (N, S, S), with the inputs of a trial's own prediction.

    The network of `robust` gets views (N, V, S, S).
    """
    parts = [softmax(logits.astype("float64")) for logits in batch_outputs(network.full, images)]
    probabilities: NDArray[Any] = np.concatenate(parts).astype("float32")
    return probabilities


def batch_outputs(model: keras.Model, images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the outputs (b, …) of a model for batches of uint8 images (N, S, S), or of views (N, V, S, S)."""
    *views, side, _ = images.shape[1:]
    each = int(np.prod(views, dtype=int))
    inputs = ImageInputs(images.reshape(-1, side, side), AugmentationConfig())
    for start in range(0, len(images), BATCH):
        rows = np.arange(start, min(start + BATCH, len(images)))
        of_views = pad(rows, BATCH)[:, None] * each + np.arange(each)
        batch = to_network_input(*clean_batch(inputs, of_views.ravel()))
        batch = keras.ops.reshape(batch, (BATCH, *views, side, side, 3))
        yield np.asarray(model.predict_on_batch(batch))[: len(rows)]


def training_rng(seed: int) -> np.random.Generator:
    """Return the generator that draws the order of images and their augmentation."""
    return np.random.default_rng([seed, 1])


def _position(step: Step, rng: np.random.Generator, history: Sequence[Epoch]) -> Position:
    return Position(step.state(), rng.bit_generator.state, list(history))


def _stages(bench: Workbench, schedule: ScheduleConfig, images: int, done: int) -> list[tuple[int | None, int]]:
    """Return sizes of images (None: the profile's) with the epoch that each ends with, for the epochs after `done`.

    Smaller images first is progressive resizing, as in Howard & Gugger, Deep Learning for Coders (2020), chapter 7.
    """
    epochs, side = schedule.epochs_for(images, bench.training.batch_size), bench.model.input_size
    early = schedule.early_epochs(epochs, side)
    return [*([(schedule.early_size(side), early)] if done < early else []), (None, epochs)]


def train(
    step: Step,
    training: TrainingConfig,
    schedule: ScheduleConfig,
    data: TrialData,
    rng: np.random.Generator,
    done: int = 0,
    until: int | None = None,
) -> Iterator[Epoch]:
    """Train on `data.train` for the epochs after `done`, up to `until` or the last, and yield each as it ends.

    At each yield `step` and `rng` are a `Position`: restored, it gives the weights of an uninterrupted training.
    """
    step.load(data.inputs)
    weights = class_weights(data.labels[data.train], training.class_weights)
    steps = -(-len(data.train) // training.batch_size)
    epochs = schedule.epochs_for(len(data.train), training.batch_size)
    rates = learning_rates(schedule, epochs * steps, training.warmup_fraction).astype("float32").reshape(-1, steps)
    for number in range(done, epochs if until is None else until):
        began = time.perf_counter()
        batches = _batches(shuffled(data.inputs, data.train, rng), training.batch_size)
        index = _in_batches(data.inputs.training_index(batches.ravel(), rng), batches.shape)
        labels = data.labels[batches].astype("int32")
        losses, correct = step.train(Steps(index, labels, weights[labels], rates[number]))
        loss, accuracy = float(np.mean(losses, dtype="float64")), int(np.sum(correct)) / batches.size
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} in epoch {number + 1}: lower the learning rate")
        seconds = time.perf_counter() - began
        yield Epoch(number + 1, epochs, loss, accuracy, float(rates[number][-1]), seconds)


def _batches(rows: NDArray[Any], batch_size: int) -> NDArray[Any]:
    """Return `rows` as (batches, batch_size); the last batch is filled up from the start, so that all are full."""
    return pad(rows, -(-len(rows) // batch_size) * batch_size).reshape(-1, batch_size)


def _in_batches(index: Index, shape: tuple[int, ...]) -> Index:
    return tuple(array.reshape(*shape, *array.shape[1:]) for array in index)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return the softmax of logits (N, C) along their second axis."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[Any] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
