"""Compare the images per second of a trial's training loop with the bare compiled step, and with `model.fit`.

Each strategy is measured in each precision asked for. On TensorFlow a step in 16 bits is also measured with depthwise
convolutions in float32: those in float16 were once 50 times slower than in float32
(https://github.com/tensorflow/tensorflow/issues/41715).

The bare step trains on one constant batch that stays on the device: nothing but arithmetic. `model.fit` gets arrays in
memory and no augmentation. The three ways take turns in rounds, and each round gives a ratio, so that other work on the
machine affects them alike. The process has the whole GPU, or all processors.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from cxr_platform.config import AugmentationConfig, Precision, Profile, load_profile
from cxr_platform.domain.strategies import strategy_by_name
from pipelines.benchmarks import write_result
from pipelines.options import positive, strategy_list

if TYPE_CHECKING:
    from cxr_platform.training.trial import Workbench

BATCHES = 12
"""Batches of a round."""
ROUNDS = 5
MOST_EPOCHS = 10_000
"""Calls of the training loop that one test allows."""


@dataclass(frozen=True)
class StepRequest:
    """Strategies, side of the images in pixels, precisions, and the JSON file for the result (`None`: print only).

    `deterministic` measures operations that repeat, also on a GPU. The ways take turns in `rounds`.
    """

    strategies: tuple[str, ...]
    input_size: int
    precision: tuple[Precision, ...]
    deterministic: bool
    rounds: int
    json: Path | None


@dataclass(frozen=True)
class StepSpeed:
    """Images per second of one strategy, medians over the rounds, and the medians of the ratios within each round.

    `depthwise` is the type in which depthwise convolutions are computed; `None` without any. `ratios` has those of each
    round, to the bare step and to `model.fit`.
    """

    strategy: str
    precision: Precision
    depthwise: str | None
    loop: float
    bare_step: float
    model_fit: float
    loop_to_bare_step: float
    loop_to_model_fit: float
    ratios: tuple[tuple[float, float], ...] = ()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark step`."""
    parser.add_argument(
        "--strategies",
        type=strategy_list,
        default=("off-the-shelf", "fine-tuning-1", "scratch"),
        help="names separated by commas, or all (default: off-the-shelf,fine-tuning-1,scratch)",
    )
    parser.add_argument("--input-size", type=int, default=96, metavar="PIXELS", help="side of the images (default: 96)")
    parser.add_argument(
        "--precision",
        type=parse_precisions,
        default=("float32",),
        metavar="NAMES",
        help=f"types of numbers separated by commas: {', '.join(get_args(Precision))} (default: float32)",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="on a GPU too, as with resources.deterministic = true"
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        default=ROUNDS,
        metavar="N",
        help=f"rounds in which the ways take turns, {BATCHES} batches each (default: {ROUNDS})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """Return the precisions named in `text`, separated by commas; raise `ArgumentTypeError` for another one."""
    known = get_args(Precision)
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(known):
        raise argparse.ArgumentTypeError(f"expected names out of {', '.join(known)}, not {text!r}")
    return tuple(name for name in known if name in names)


def run(request: StepRequest) -> int:
    """Print images per second and ratios of every strategy in every precision; return 0."""
    from cxr_platform.training.devices import is_deterministic

    profile, gpus = _limited_process(request)
    heading = f"{'strategy':<16}{'precision':<16}{'depthwise':<16}{'loop':>9}{'bare step':>11}{'model.fit':>11}"
    print(f"{heading}   loop / bare step   loop / model.fit")
    speeds = []
    for name in request.strategies:
        for precision in request.precision:
            for float32_depthwise in (False, True) if _has_depthwise_choice(name, precision) else (False,):
                bench = workbench(profile, gpus, precision)
                speed = measure(name, bench, profile.augmentation, float32_depthwise, request.rounds)
                speeds.append(speed)
                print(
                    f"{name:<16}{precision:<16}{speed.depthwise or 'none':<16}"
                    f"{speed.loop:9.1f}{speed.bare_step:11.1f}{speed.model_fit:11.1f}"
                    f"{speed.loop_to_bare_step:19.2f}{speed.loop_to_model_fit:19.2f}",
                    flush=True,
                )
    if request.json is not None:
        settings = {"input_size": request.input_size, "deterministic": is_deterministic(profile.resources, gpus)}
        settings |= {"batches": BATCHES, "rounds": request.rounds}
        write_result(request.json, "step", {**settings, "speeds": [asdict(speed) for speed in speeds]})
    return 0


def _has_depthwise_choice(name: str, precision: Precision) -> bool:
    """Return True if a step of strategy `name` has depthwise convolutions in 16 bits, on TensorFlow."""
    from cxr_platform.training.devices import keras_backend

    trains_convolutions = strategy_by_name(name).trainable_blocks != 0
    return trains_convolutions and precision != "float32" and keras_backend() == "tensorflow"


def _limited_process(request: StepRequest) -> tuple[Profile, float]:
    """Return the profile to measure and the GPUs of this process, which is set up as that of a trial is."""
    from cxr_platform.training.devices import is_deterministic, limit_process
    from cxr_platform.training.engine_local import local_share

    more = {"resources.deterministic": True} if request.deterministic else {}
    profile = load_profile("quick", {"model.input_size": request.input_size, **more})
    gpus = local_share(profile.resources).gpus
    limit_process(float(os.cpu_count() or 1), gpus, is_deterministic(profile.resources, gpus))
    return profile, gpus


def workbench(profile: Profile, gpus: float, precision: Precision) -> "Workbench":
    """Return the workbench of a trial with `gpus`, with random weights in place of ImageNet's."""
    from cxr_platform.models.mobilenet import build_backbone
    from cxr_platform.training.study import placement_of
    from cxr_platform.training.trial import Workbench

    weights = {layer.name: layer.get_weights() for layer in build_backbone(profile.model).layers if layer.weights}
    return Workbench(profile.model, profile.training, weights, precision, placement_of(profile.resources, gpus))


def measure(
    name: str, bench: "Workbench", augmentation: AugmentationConfig, float32_depthwise: bool, rounds: int = ROUNDS
) -> StepSpeed:
    """Return the speeds of strategy `name` on random images."""
    test = SpeedTest(name, bench, augmentation, BATCHES, float32_depthwise=float32_depthwise)
    test.compile()
    return test.measure(rounds)


class SpeedTest:
    """Three ways to train strategy `name` on `batches` random batches: the loop of a trial, the bare step, `model.fit`.

    Each call of a way trains on all batches and waits for the end.
    """

    def __init__(
        self,
        name: str,
        bench: "Workbench",
        augmentation: AugmentationConfig,
        batches: int,
        seed: int = 0,
        float32_depthwise: bool = False,
    ) -> None:
        from cxr_platform.training.trial import TrialData, train, training_rng

        self._name, self._batches, self._batch_size = name, batches, bench.training.batch_size
        self._precision = bench.precision
        strategy = strategy_by_name(name)
        self._network, self._step = bench.set_up(strategy, seed)
        self._depthwise = depthwise_type(self._network.upper, "float32" if float32_depthwise else None)
        self._inputs, self._labels = _random_inputs(self._network, augmentation, batches * self._batch_size)
        rows = np.arange(len(self._labels))
        schedule = replace(bench.training.schedule(strategy.family), epochs=MOST_EPOCHS)
        data = TrialData(self._inputs, self._labels, rows, rows[:0])
        self._epochs = train(self._step, bench.training, schedule, data, training_rng(seed))

    def loop(self) -> object:
        """Train as a trial does."""
        return next(self._epochs)

    def bare(self) -> object:
        """Train on one constant batch that stays on the device."""
        return self._bare(self._batches)

    def fit(self) -> None:
        """Train with Keras' own loop on arrays in memory, without augmentation."""
        self._model.fit(self._features, self._labels, batch_size=self._batch_size, epochs=1, verbose=0)

    def compile(self) -> None:
        """Run each way once."""
        for way in (self.loop, self.bare, self.fit):
            way()

    def measure(self, rounds: int = ROUNDS) -> StepSpeed:
        """Return the speeds over `rounds` rounds in which the ways take turns."""
        ways: tuple[Callable[[], object], ...] = (self.loop, self.bare, self.fit)
        seconds = np.array([[self.seconds(way) for way in ways] for _ in range(rounds)])
        loop, bare_seconds, fit_seconds = (float(median(column)) for column in seconds.T)
        images = self._batches * self._batch_size
        ratios = seconds[:, 1:] / seconds[:, :1]
        return StepSpeed(
            self._name,
            self._precision,
            self._depthwise,
            images / loop,
            images / bare_seconds,
            images / fit_seconds,
            float(median(ratios[:, 0])),
            float(median(ratios[:, 1])),
            tuple((to_bare, to_fit) for to_bare, to_fit in ratios.tolist()),
        )

    @staticmethod
    def seconds(way: Callable[[], object]) -> float:
        """Return the seconds of one call of `way`."""
        began = time.perf_counter()
        way()
        return time.perf_counter() - began

    @cached_property
    def _bare(self) -> Callable[[int], object]:
        batch = np.arange(self._batch_size)
        index = self._inputs.clean_index(batch)
        arrays = (np.concatenate(self._inputs.arrays)[index[0]], *index[1:])
        return _bare_steps(self._step, arrays, self._labels[batch])

    @cached_property
    def _model(self) -> Any:
        import keras

        keras.utils.set_random_seed(0)  # with deterministic operations TensorFlow shuffles with a seed only
        model = self._network.upper
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    @cached_property
    def _features(self) -> Any:
        features = np.concatenate(self._inputs.arrays)[: len(self._labels)]
        if self._network.strategy.cut is None:
            features = np.repeat(features[..., None] / np.float32(127.5) - 1, 3, axis=-1)
        return features.astype("float32")


def depthwise_type(model: Any, policy: str | None = None) -> str | None:
    """Return the type in which the depthwise convolutions of `model` compute, `None` without any.

    `policy` sets it, in a model that was not called yet.
    """
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    for layer in layers if policy else ():
        layer.dtype_policy = keras.DTypePolicy(policy)
    return layers[0].compute_dtype if layers else None


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


def _bare_steps(step: Any, batch: Sequence[Any], labels: Any) -> Callable[[int], object]:
    """Return a function that runs a number of compiled steps on `batch`, each on the state after the one before.

    It waits for the end of the last one, as a loop of steps does.
    """
    import keras

    labels, weights = labels.astype("int32"), np.ones(len(labels), "float32")
    if keras.backend.backend() == "jax":
        import jax

        once = jax.jit(step._train_once, donate_argnums=0)
        state = [jax.tree.map(jax.numpy.copy, step._state)]  # the memory of a state that was given is reused
        arrays = jax.device_put((tuple(batch), labels, weights, np.float32(0.001)))

        def steps(count: int) -> object:
            for _ in range(count):
                state[0], loss, _ = once(state[0], *arrays)
            return jax.block_until_ready(loss)

        return steps
    import tensorflow as tf

    compiled = tf.function(step._train_once, autograph=False)
    tensors = tuple(map(tf.constant, batch)), tf.constant(labels), tf.constant(weights)
    return lambda count: [compiled(*tensors)[0] for _ in range(count)][-1].numpy()
