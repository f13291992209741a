"""Compare the time that a fold takes beyond its training steps: a kept compiled step against Keras' `model.fit`.

Both train the same network on the same random images for two folds. The time beyond the steps is the wall time of the
fold minus the number of epochs times the median of its later epochs: building, tracing, graph optimisation and the
first prediction.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import Profile, load_profile
from cxr_platform.domain.strategies import strategy_by_name

IMAGES = 64
EPOCHS = 4


@dataclass(frozen=True)
class FoldsRequest:
    """Strategy to train, and side of the images in pixels."""

    strategy: str
    input_size: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark folds`."""
    parser.add_argument("--strategy", default="scratch", help="strategy to train (default: scratch)")
    parser.add_argument("--input-size", type=int, default=96, metavar="PIXELS", help="side of the images (default: 96)")


def run(request: FoldsRequest) -> int:
    """Print the seconds beyond the steps of the first and second fold in both ways, and their ratio; return 0."""
    schedule = {"epochs": EPOCHS, "learning_rate": 0.001}
    overrides = {
        "model.input_size": request.input_size,
        **{f"training.{family}": schedule for family in ("off_the_shelf", "fine_tuning", "scratch")},
    }
    profile = load_profile("quick", overrides)
    ways: dict[str, Callable[[int], float]] = {
        "kept step": _kept_step(profile, request.strategy),
        "model.fit": _stock_fit(profile, request.strategy),
    }
    print(f"{request.strategy} at {request.input_size} px, {IMAGES} images × {EPOCHS} epochs per fold")
    beyond = {way: [train_fold(number) for number in (0, 1)] for way, train_fold in ways.items()}
    for way, (first, second) in beyond.items():
        print(f"{way:>10}: first fold {first:5.1f} s, second fold {second:5.1f} s beyond their steps")
    print(f"second fold, model.fit / kept step: {beyond['model.fit'][1] / max(beyond['kept step'][1], 0.01):.0f}")
    return 0


def _kept_step(profile: Profile, name: str) -> Callable[[int], float]:
    """Return a function that trains one fold as a study does."""
    from cxr_platform.models.frozen import FrozenBackbone, view_transforms
    from cxr_platform.models.mobilenet import build_backbone
    from cxr_platform.training.inputs import FrozenInputs, ImageInputs, Inputs
    from cxr_platform.training.trial import TrialData, Workbench, run_trial

    strategy = strategy_by_name(name)
    # Random weights: their values do not change the time of a step.
    backbone = {layer.name: layer.get_weights() for layer in build_backbone(profile.model).layers if layer.weights}
    bench = Workbench(profile.model, profile.training, backbone)
    images, labels = _images(profile)
    inputs: Inputs = ImageInputs(images, profile.augmentation)
    if strategy.cut:
        frozen = FrozenBackbone((strategy.cut,), profile.model, backbone)
        transforms = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)
        inputs = FrozenInputs([np.stack([frozen.activations(images, view)[strategy.cut] for view in transforms])])
    rows = np.arange(IMAGES)

    def train_fold(number: int) -> float:
        result = run_trial(bench, strategy, TrialData(inputs, labels, rows, rows[:8]), seed=number)
        return beyond_steps(result.seconds["total"], [epoch.seconds for epoch in result.history])

    return train_fold


def _stock_fit(profile: Profile, name: str) -> Callable[[int], float]:
    """Return a function that builds the same network anew for each fold and trains it with Keras' own loop."""
    import keras

    from cxr_platform.models.mobilenet import build_network

    images, labels = _images(profile)
    pixels = np.repeat(images[..., None] / np.float32(127.5) - 1, 3, axis=-1)

    def train_fold(number: int) -> float:
        seconds: list[float] = []
        started = time.perf_counter()
        keras.utils.set_random_seed(number)
        model = build_network(strategy_by_name(name), profile.model).full
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
        model.fit(
            pixels,
            labels,
            batch_size=profile.training.batch_size,
            epochs=EPOCHS,
            verbose=0,
            callbacks=[_epoch_timer(seconds)],
        )
        model.predict(pixels[:8], verbose=0)
        return beyond_steps(time.perf_counter() - started, seconds)

    return train_fold


def beyond_steps(total: float, epochs: Sequence[float]) -> float:
    """Return the seconds of a fold that are not its epochs at their steady pace (the median of all but the first)."""
    return total - len(epochs) * median(epochs[1:])


def _epoch_timer(seconds: list[float]) -> Any:
    import keras

    started = [0.0]
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: started.__setitem__(0, time.perf_counter()),
        on_epoch_end=lambda *_: seconds.append(time.perf_counter() - started[0]),
    )


def _images(profile: Profile) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(profile.seed)
    side = profile.model.input_size
    return rng.integers(0, 256, (IMAGES, side, side), dtype=np.uint8), np.arange(IMAGES) % 7
