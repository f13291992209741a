"""References and windows out of drawn numbers."""

from collections.abc import Sequence

import numpy as np

from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.drift import Observation, Window
from cxr_platform.monitoring.reference import Reference, build_reference

FEATURES = 48


def draw(rng: np.random.Generator, images: int, *, brightness: float = 0.5) -> dict[str, np.ndarray]:
    """The arrays that `build_reference` takes; two in three images have no padding at all."""
    confidence = rng.beta(6, 2, images)
    hidden = rng.normal(size=(images, 6)) * np.array([8, 6, 4, 3, 2, 1])
    return {
        "confidence": confidence,
        "covid19": rng.beta(1, 6, images),
        "labels": rng.choice(len(CLASSES), images, p=[0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3]),
        "brightness": rng.normal(brightness, 0.08, images),
        "contrast": rng.normal(0.22, 0.03, images),
        "padding": np.where(rng.random(images) < 2 / 3, 0.0, rng.uniform(0, 0.3, images)),
        "features": (20 + hidden @ _mixing() / 10 + 0.1 * rng.normal(size=(images, FEATURES))).astype("float32") ** 2,
        "groups": np.arange(images) // 2,
    }


def make_reference(images: int = 2000, seed: int = 1) -> Reference:
    return build_reference(**draw(np.random.default_rng(seed), images))


def observations(arrays: dict[str, np.ndarray], reference: Reference) -> list[Observation]:
    distance = reference.distance(arrays["features"])
    rows = zip(arrays["labels"], arrays["confidence"], arrays["covid19"], arrays["brightness"], arrays["contrast"],
               arrays["padding"], distance, strict=True)  # fmt: skip
    return [Observation(CLASSES[label], *(float(value) for value in values)) for label, *values in rows]


def window_of(images: Sequence[Observation], size: int = 1000) -> Window:
    window = Window(size)
    for image in images:
        window.add(image)
    return window


def _mixing() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, FEATURES))
