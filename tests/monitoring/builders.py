"""References and windows out of drawn numbers."""

from collections.abc import Sequence

import numpy as np

from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.drift import Observation, Window
from cxr_platform.monitoring.reference import Reference, build_reference

FEATURES = 48


def draw(rng: np.random.Generator, films: int, *, brightness: float = 0.5) -> dict[str, np.ndarray]:
    """The arrays that `build_reference` takes; two in three films have no padding at all."""
    confidence = rng.beta(6, 2, films)
    hidden = rng.normal(size=(films, 6)) * np.array([8, 6, 4, 3, 2, 1])
    return {
        "confidence": confidence,
        "covid19": rng.beta(1, 6, films),
        "labels": rng.choice(len(CLASSES), films, p=[0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3]),
        "brightness": rng.normal(brightness, 0.08, films),
        "contrast": rng.normal(0.22, 0.03, films),
        "padding": np.where(rng.random(films) < 2 / 3, 0.0, rng.uniform(0, 0.3, films)),
        "features": (20 + hidden @ _mixing() / 10 + 0.1 * rng.normal(size=(films, FEATURES))).astype("float32") ** 2,
        "groups": np.arange(films) // 2,
    }


def make_reference(films: int = 2000, seed: int = 1) -> Reference:
    return build_reference(**draw(np.random.default_rng(seed), films))


def observations(arrays: dict[str, np.ndarray], reference: Reference) -> list[Observation]:
    distance = reference.distance(arrays["features"])
    rows = zip(arrays["labels"], arrays["confidence"], arrays["covid19"], arrays["brightness"], arrays["contrast"],
               arrays["padding"], distance, strict=True)  # fmt: skip
    return [Observation(CLASSES[label], *(float(value) for value in values)) for label, *values in rows]


def window_of(films: Sequence[Observation], size: int = 1000) -> Window:
    window = Window(size)
    for film in films:
        window.add(film)
    return window


def _mixing() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, FEATURES))
