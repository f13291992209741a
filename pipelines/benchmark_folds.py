"""What a fold costs beyond its steps: a kept compiled step against a stock `model.fit`, in one run on one machine.

    python -m pipelines.benchmark_folds --strategy scratch

Each way trains the same network on the same images for two folds. "Beyond its steps" is the wall time of the fold less
the number of epochs times the median of its later epochs: building, tracing, graph optimisation, the first prediction.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

from cxr_platform.config import Profile, load_profile
from pipelines.command import run_command

IMAGES = 64
EPOCHS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Print seconds beyond the steps for the first and second fold of both ways, and their ratio; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.benchmark_folds", description=__doc__.split("\n")[0])
    parser.add_argument("--strategy", default="scratch")
    parser.add_argument("--input-size", type=int, default=96)
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    schedule = {"epochs": EPOCHS, "learning_rate": 0.001}
    overrides = {
        "model.input_size": arguments.input_size,
        **{f"training.{family}": schedule for family in ("off_the_shelf", "fine_tuning", "scratch")},
    }
    profile = load_profile("quick", overrides)
    ways: dict[str, Callable[[int], float]] = {
        "kept step": _kept_step(profile, arguments.strategy),
        "model.fit": _stock_fit(profile, arguments.strategy),
    }
    print(f"{arguments.strategy} at {arguments.input_size} px, {IMAGES} images × {EPOCHS} epochs a fold")
    beyond = {way: [fold(number) for number in (0, 1)] for way, fold in ways.items()}
    for way, (first, second) in beyond.items():
        print(f"{way:>10}: first fold {first:5.1f} s, second fold {second:5.1f} s beyond their steps")
    print(f"second fold, model.fit / kept step: {beyond['model.fit'][1] / max(beyond['kept step'][1], 0.01):.0f}")
    return 0


def _kept_step(profile: Profile, name: str) -> Callable[[int], float]:
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.training.inputs import FrozenInputs, ImageInputs, Inputs
    from cxr_platform.training.trial import TrialData, Workbench, run_trial

    strategy = strategy_by_name(name)
    bench = Workbench(profile.model, profile.training, _random_backbone(profile))
    images, labels = _images(profile)
    inputs: Inputs = ImageInputs(images, profile.augmentation)
    if strategy.cut:
        inputs = FrozenInputs([_activations(profile, strategy.cut, images)])
    rows = np.arange(IMAGES)

    def fold(number: int) -> float:
        result = run_trial(bench, strategy, TrialData(inputs, labels, rows, rows[:8]), seed=number)
        return beyond_steps(result.seconds["total"], [epoch.seconds for epoch in result.history])

    return fold


def _stock_fit(profile: Profile, name: str) -> Callable[[int], float]:
    """The same network built anew for each fold and trained with Keras' own loop, without augmentation."""
    import keras

    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.models.mobilenet import build_network

    images, labels = _images(profile)
    pixels = np.repeat(images[..., None] / np.float32(127.5) - 1, 3, axis=-1)

    def fold(number: int) -> float:
        seconds: list[float] = []
        began = time.perf_counter()
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
        return beyond_steps(time.perf_counter() - began, seconds)

    return fold


def beyond_steps(total: float, epochs: Sequence[float]) -> float:
    """Seconds of a fold that are not its epochs at their steady pace (the median of all but the first)."""
    return total - len(epochs) * median(epochs[1:])


def _epoch_timer(seconds: list[float]) -> Any:
    import keras

    began = [0.0]
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: began.__setitem__(0, time.perf_counter()),
        on_epoch_end=lambda *_: seconds.append(time.perf_counter() - began[0]),
    )


def _images(profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(profile.seed)
    side = profile.model.input_size
    return rng.integers(0, 256, (IMAGES, side, side), dtype=np.uint8), np.arange(IMAGES) % 7


def _random_backbone(profile: Profile) -> dict[str, list[np.ndarray]]:
    """Weights do not change what a step costs; no download is needed for this."""
    from cxr_platform.models.mobilenet import build_backbone

    return {layer.name: layer.get_weights() for layer in build_backbone(profile.model).layers if layer.weights}


def _activations(profile: Profile, cut: str, images: np.ndarray) -> np.ndarray:
    from cxr_platform.models.frozen import FrozenBackbone, view_transforms

    backbone = FrozenBackbone((cut,), profile.model, _random_backbone(profile))
    transforms = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)
    return np.stack([backbone.activations(images, view)[cut] for view in transforms])


if __name__ == "__main__":
    raise SystemExit(main())
