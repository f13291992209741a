"""Reference statistics of a bundle, reference.json: distributions of the training images and of the answers for them.

Answers (confidence, covid19, labels) are out-of-fold; brightness, contrast and padding are from the manifest. All
quantities are float32, here and in `drift.Window`, so that a value that many images share compares equal.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import BundleError
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.distance import DistanceModel, fit_distance
from cxr_platform.storage.files import write_atomically
from cxr_platform.validation import check_schema_version, parse_json

SCHEMA_VERSION = 1
POINTS = 1001
AGAIN = "Make the bundle again."
QUANTITIES = ("confidence", "covid19", "brightness", "contrast", "padding", "distance")
"""Largest calibrated probability; Covid19 probability; mean and standard deviation of grey (0 to 1, without padding);
share of padding in the letterbox; distance of the features (`distance.DistanceModel`)."""

Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Quantity:
    """`quantiles` (1001,) float32 at 0, 0.001, … 1 of `n` images; each is the value of an image."""

    quantiles: NDArray[np.float32]
    n: int


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics that later images are compared with."""

    quantities: Mapping[str, Quantity]
    labels: Mapping[str, float]  # share of each predicted class, in the order of CLASSES
    model: DistanceModel

    @property
    def limit(self) -> float:
        """The distance beyond which an image is unlike the training images; one in a thousand of those is."""
        return self.model.limit

    @property
    def answers(self) -> int:
        """Number of images behind `labels`."""
        return self.quantities["confidence"].n

    def distance(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return distances (B,) of features (B, F); raise `BundleError` for those of another network."""
        return self.model(features)

    def write(self, path: Path) -> None:
        """Write `path` atomically; raise `StorageError` if that is not possible."""
        write_atomically(path, json.dumps(_to_tree(self), allow_nan=False).encode())


def build_reference(
    *,
    confidence: Array,
    covid19: Array,
    labels: Array,
    brightness: Array,
    contrast: Array,
    padding: Array,
    features: NDArray[np.floating[Any]],
    groups: Array,
    seed: int = 2020,
) -> Reference:
    """Return the reference statistics of a champion; raise `BundleError` for arrays that do not fit.

    `confidence` and `covid19` (N,) are calibrated out-of-fold probabilities, `labels` (N,) the predicted positions in
    `CLASSES`; `brightness`, `contrast` and `padding` (M,) are from the manifest. `features` (M, F) are the champion's,
    `groups` (M,) the patients for cross-fitted distances.
    """
    model, distances = fit_distance(features, np.asarray(groups), seed)
    columns = {"confidence": confidence, "covid19": covid19, "brightness": brightness, "contrast": contrast}
    columns |= {"padding": padding, "distance": distances}
    counts = np.bincount(np.asarray(labels, np.intp), minlength=len(CLASSES))
    if len(counts) != len(CLASSES) or counts.sum() != len(confidence):
        received = f"{len(labels)} labels up to {len(counts) - 1}, {len(confidence)} confidences"
        raise BundleError(f"Expected a position among {len(CLASSES)} classes for each image.", received=received)
    shares = {label: float(n / counts.sum()) for label, n in zip(CLASSES, counts, strict=True)}
    return Reference({name: _quantity(name, columns[name]) for name in QUANTITIES}, shares, model)


def parse_reference(content: bytes, where: str) -> Reference:
    """Return the reference in the bytes of a reference.json; raise `BundleError` naming `where` if it is damaged."""
    tree = parse_json(content, where, BundleError, AGAIN)
    check_schema_version(tree, SCHEMA_VERSION, where, BundleError, AGAIN)
    try:
        return _from_tree(tree)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"Expected reference statistics of schema version {SCHEMA_VERSION} in {where}.",
            received=f"{type(error).__name__}: {error}",
            advice=AGAIN,
        ) from error


def _quantity(name: str, values: Array) -> Quantity:
    column = np.asarray(values, np.float32)
    if column.ndim != 1 or not len(column) or not np.isfinite(column).all():
        raise BundleError(f"Expected a finite number for each image as {name}.", received=f"shape {column.shape}")
    return Quantity(np.quantile(column, np.linspace(0, 1, POINTS), method="inverted_cdf"), len(column))


def _to_tree(reference: Reference) -> dict[str, Any]:
    model = reference.model
    distance = {name: _plain(getattr(model, name)) for name in ("mean", "basis", "scale", "residual", "limit")}
    quantities = {name: {"quantiles": _plain(q.quantiles), "n": q.n} for name, q in reference.quantities.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "quantities": quantities,
        "labels": dict(reference.labels),
        "distance": distance,
    }


def _plain(value: Any) -> Any:
    """Return nested lists with the nine digits that keep a float32 exact."""
    if np.ndim(value):
        return [_plain(part) for part in value]
    return float(f"{float(value):.9g}")


def _from_tree(tree: Mapping[str, Any]) -> Reference:
    quantities = {name: _read_quantity(tree["quantities"][name]) for name in QUANTITIES}
    labels = {label: float(tree["labels"][label]) for label in CLASSES}
    given = tree["distance"]
    mean, basis, scale = (np.asarray(given[name], np.float64) for name in ("mean", "basis", "scale"))
    if basis.shape != (len(scale), len(mean)):
        raise ValueError(f"basis {basis.shape}, scale {scale.shape}, mean {mean.shape}")
    return Reference(
        quantities, labels, DistanceModel(mean, basis, scale, float(given["residual"]), float(given["limit"]))
    )


def _read_quantity(tree: Mapping[str, Any]) -> Quantity:
    quantiles = np.asarray(tree["quantiles"], np.float32)
    if quantiles.shape != (POINTS,) or (np.diff(quantiles) < 0).any():
        raise ValueError(f"quantiles {quantiles.shape}, expected {POINTS} that do not fall")
    return Quantity(quantiles, int(tree["n"]))
