"""Compare the images per second of a trial's training loop with the bare compiled step, and with `model.fit`.

The bare step trains on one constant batch that stays on the device: nothing but arithmetic. `model.fit` gets arrays in
memory and no augmentation. The three ways take turns in rounds, and each round gives a ratio, so that other work on the
machine affects them alike.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import parse_strategies, strategy_by_name
from pipelines.benchmarks import write_result

BATCHES = 12
"""Batches of a round."""
ROUNDS = 5


@dataclass(frozen=True)
class StepRequest:
    """Strategies, side of the images in pixels, and the JSON file for the result (`None`: print only)."""

    strategies: tuple[str, ...]
    input_size: int
    json: Path | None


@dataclass(frozen=True)
class StepSpeed:
    """Images per second of one strategy, medians over the rounds, and the medians of the ratios within each round."""

    strategy: str
    loop: float
    bare_step: float
    model_fit: float
    loop_to_bare_step: float
    loop_to_model_fit: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark step`."""
    parser.add_argument(
        "--strategies",
        type=parse_strategies,
        default=("off-the-shelf", "fine-tuning-1", "scratch"),
        help="names separated by commas, or all (default: off-the-shelf,fine-tuning-1,scratch)",
    )
    parser.add_argument("--input-size", type=int, default=96, metavar="PIXELS", help="side of the images (default: 96)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def run(request: StepRequest) -> int:
    """Print images per second and ratios of every strategy; return 0."""
    print(f"{'strategy':<16}{'loop':>9}{'bare step':>11}{'model.fit':>11}   loop / bare step   loop / model.fit")
    speeds = []
    for name in request.strategies:
        speed = measure(name, request.input_size)
        speeds.append(speed)
        print(
            f"{name:<16}{speed.loop:9.1f}{speed.bare_step:11.1f}{speed.model_fit:11.1f}"
            f"{speed.loop_to_bare_step:19.2f}{speed.loop_to_model_fit:19.2f}",
            flush=True,
        )
    if request.json is not None:
        settings = {"input_size": request.input_size, "batches": BATCHES, "rounds": ROUNDS}
        write_result(request.json, "step", {**settings, "speeds": [asdict(speed) for speed in speeds]})
    return 0


def measure(name: str, input_size: int) -> StepSpeed:
    """Return the speeds of strategy `name` at `input_size` pixels, on random images and weights."""
    import keras

    from cxr_platform.models.mobilenet import build_backbone
    from cxr_platform.training.trial import TrialData, Workbench, train, training_rng

    strategy = strategy_by_name(name)
    schedule = {"epochs": ROUNDS + 1, "learning_rate": 0.001}
    families = {f"training.{family}": schedule for family in ("off_the_shelf", "fine_tuning", "scratch")}
    profile = load_profile("quick", {"model.input_size": input_size, **families})
    batch_size = profile.training.batch_size
    weights = {layer.name: layer.get_weights() for layer in build_backbone(profile.model).layers if layer.weights}
    bench = Workbench(profile.model, profile.training, weights)
    network, step = bench.set_up(strategy, seed=0)
    inputs, labels = _random_inputs(network, profile.augmentation, BATCHES * batch_size)
    rows = np.arange(len(labels))
    epochs = train(
        step,
        profile.training,
        profile.training.schedule(strategy.family),
        TrialData(inputs, labels, rows, rows[:0]),
        training_rng(0),
    )
    index = inputs.clean_index(rows[:batch_size])
    bare = _bare_step(step, (np.concatenate(inputs.arrays)[index[0]], *index[1:]), labels[:batch_size])
    keras.utils.set_random_seed(0)  # with deterministic operations TensorFlow shuffles with a seed only
    network.upper.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    features = np.concatenate(inputs.arrays)[rows]
    if strategy.cut is None:
        features = np.repeat(features[..., None] / np.float32(127.5) - 1, 3, axis=-1)

    def fit() -> None:
        network.upper.fit(features.astype("float32"), labels, batch_size=batch_size, epochs=1, verbose=0)

    ways: tuple[Callable[[], object], ...] = (lambda: next(epochs), lambda: [bare() for _ in range(BATCHES)][-1], fit)
    for way in ways:  # compiles
        way()
    seconds = np.array([[_seconds(way) for way in ways] for _ in range(ROUNDS)])
    loop, bare_seconds, fit_seconds = (float(median(column)) for column in seconds.T)
    images = BATCHES * batch_size
    return StepSpeed(
        name,
        images / loop,
        images / bare_seconds,
        images / fit_seconds,
        float(median(seconds[:, 1] / seconds[:, 0])),
        float(median(seconds[:, 2] / seconds[:, 0])),
    )


def _random_inputs(network: Any, augmentation: Any, count: int) -> tuple[Any, Any]:
    """Return inputs of `count` random images or activations, as the network takes them, and labels."""
    from cxr_platform.training.inputs import FrozenInputs, ImageInputs

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, count)
    if network.strategy.cut is None:
        side = network.config.input_size
        return ImageInputs(rng.integers(0, 256, (count, side, side), dtype="uint8"), augmentation), labels
    shape = network.upper.input_shape[1:]
    return FrozenInputs([rng.normal(size=(1, count, *shape)).astype("float16")]), labels


def _bare_step(step: Any, batch: Sequence[Any], labels: Any) -> Callable[[], object]:
    """Return a function that runs one compiled step on `batch` and waits for its end."""
    import keras

    labels, weights = labels.astype("int32"), np.ones(len(labels), "float32")
    if keras.backend.backend() == "jax":
        import jax

        once = jax.jit(step._train_once)
        arrays = jax.device_put((tuple(batch), labels, weights, np.float32(0.001)))
        return lambda: jax.block_until_ready(once(step._state, *arrays))
    import tensorflow as tf

    compiled = tf.function(step._train_once, autograph=False)
    tensors = tuple(map(tf.constant, batch)), tf.constant(labels), tf.constant(weights)
    return lambda: compiled(*tensors)[0].numpy()


def _seconds(way: Callable[[], object]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began
