"""Trains a block and the head on one and on two (virtual) devices, and stores what came of it.

python -m tests.training.devices_probe FILE
"""

import os
import sys

import numpy as np

DEVICES = 2


def split_the_processor() -> None:
    """Before either framework looks for devices."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(DEVICES)]
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)


def probe(most: int) -> dict[str, np.ndarray]:
    """The state after one step of a batch in which the images of one half weigh more, and losses of the next ones.

    On the devices that the batch can use, at most `most`. Without dropout, whose random bits differ by replica.
    """
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.training.step import Placement, usable_devices
    from cxr_platform.training.trial import Workbench
    from tests.training.backend_probe import numpy_imagenet, separable_features
    from tests.training.builders import same_batch, tiny_data, tiny_profile

    profile, data = tiny_profile(**{"model.dropout": 0.0, "model.input_size": 96}), tiny_data()
    placement = Placement(min(most, usable_devices(len(data.labels))))
    bench = Workbench(profile.model, profile.training, numpy_imagenet(), placement=placement)
    _, step = bench.set_up(strategy_by_name("fine-tuning-1"), seed=9)
    rows = np.arange(len(data.labels))
    inputs = separable_features(data, (3, 3, 160))
    step.load(inputs)
    index = inputs.clean_index(rows)
    labels, weights = data.labels.astype("int32"), np.where(rows < 28, 3, 1).astype("float32")
    first, correct = step.train(same_batch(index, labels, weights))
    result = {**step.state(), "devices": np.array(placement.devices), "correct": correct}
    result["losses"] = np.concatenate([first, step.train(same_batch(index, labels, weights, count=3))[0]])
    step.restore({name: array for name, array in result.items() if "/" in name})
    result["again"] = step.train(same_batch(index, labels, weights, count=3))[0]
    result["logits"] = step.logits(tuple(array[None] for array in index))
    return result


def dropout_seeds(devices: int) -> np.ndarray:
    """Seeds and counters of the head's dropout on each replica after a restored step, (devices, 2)."""
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.training.inputs import FrozenInputs
    from cxr_platform.training.step import Placement
    from cxr_platform.training.trial import Workbench
    from tests.training.backend_probe import numpy_imagenet
    from tests.training.builders import same_batch, tiny_profile

    profile = tiny_profile()
    bench = Workbench(profile.model, profile.training, numpy_imagenet(), placement=Placement(devices))
    network, step = bench.set_up(strategy_by_name("off-the-shelf"), seed=9)
    step.load(FrozenInputs([np.ones((1, 8, 1280), "float16")]))
    steps = same_batch((np.arange(8, dtype="int32"),), np.ones(8, "int32"), np.ones(8, "float32"))
    step.train(steps)
    step.restore(step.state())
    step.train(steps)
    (state,) = (v for v in network.upper.non_trainable_variables if v.name == "seed_generator_state")
    local = step._strategy.experimental_local_results(state.value)  # type: ignore[attr-defined]
    return np.array([np.asarray(own) for own in local])


if __name__ == "__main__":
    split_the_processor()
    from cxr_platform.training.step import usable_devices

    results = {f"{most} {name}": array for most in (1, DEVICES) for name, array in probe(most).items()}
    results[f"{DEVICES} usable"] = np.array([usable_devices(batch) for batch in (30, 32, 33)])
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        results[f"{DEVICES} seeds"] = dropout_seeds(DEVICES)
    np.savez(sys.argv[1], **results)
