"""The image plane, the projection of tubes in the chest onto it, and smooth fields on it.

Patient coordinates are centimetres: x to the right of the picture (the patient's left), y downwards from the lung
apices, z towards the patient's front.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]
Points = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Plane:
    """`height` × `width` pixels of `pitch` cm; `centre` is the patient's (x, y) in the middle of the image.

    `tilt` turns the picture within its plane and `turn` the patient about the long axis; both are radians.
    """

    height: int
    width: int
    pitch: float
    centre: tuple[float, float]
    tilt: float = 0.0
    turn: float = 0.0

    def coordinates(self) -> tuple[Field, Field]:
        """Return the patient's x and y in cm at each pixel: two (height, width) arrays."""
        down = (np.arange(self.height, dtype=np.float32)[:, None] - (self.height - 1) / 2) * self.pitch
        right = (np.arange(self.width, dtype=np.float32)[None, :] - (self.width - 1) / 2) * self.pitch
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        x = (cosine * right + sine * down + self.centre[0]).astype(np.float32)
        y = (cosine * down - sine * right + self.centre[1]).astype(np.float32)
        return x, y

    def shift(self, z: float) -> float:
        """Return by how many cm something at depth `z` moves to the right because the patient is turned."""
        return float(z * np.sin(self.turn))

    def project(self, points: Points) -> tuple[Points, Points]:
        """Return rows and columns (fractions of pixels) of (…, 3) points in cm."""
        x = points[..., 0] + points[..., 2] * np.sin(self.turn) - self.centre[0]
        y = points[..., 1] - self.centre[1]
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        right, down = cosine * x - sine * y, sine * x + cosine * y
        return down / self.pitch + (self.height - 1) / 2, right / self.pitch + (self.width - 1) / 2


@dataclass(frozen=True)
class Strands:
    """N tubes, each a polyline of T points: `points` (N, T, 3) cm, `radius` and `density` broadcast to (N, T).

    `hollow` is the inner share of the radius that is filled by `marrow` of the outer density: the cortex of a bone.
    """

    points: Points
    radius: Points
    density: Points
    hollow: float = 0.0
    marrow: float = 0.35


def shadow(plane: Plane, strands: Strands) -> Field:
    """Return path length in cm × density through the tubes at each pixel, (height, width).

    Volume is conserved: a tube that runs towards the image, such as a rib in the flank, casts a denser shadow.
    """
    if len(strands.points) == 0:
        return np.zeros((plane.height, plane.width), np.float32)
    points, radius, density = _resample(plane, strands)
    rows, columns = (axis.astype(np.float32) for axis in plane.project(points))
    step = np.linalg.norm(np.gradient(points, axis=1), axis=-1)
    down, right = np.gradient(rows, axis=1), np.gradient(columns, axis=1)
    length = np.maximum(np.hypot(down, right), np.float32(1e-6))
    across = _offsets(plane, radius)
    width = across[1] - across[0]
    reach = (radius / plane.pitch).astype(np.float32)[..., None] * across
    profile = 2 * width / plane.pitch**2 * _chord(across, strands)
    weight = (density * step * radius**2).astype(np.float32)[..., None] * profile
    down, right = (down / length)[..., None], (right / length)[..., None]
    return splat(plane, rows[..., None] - right * reach, columns[..., None] + down * reach, weight)


def splat(plane: Plane, rows: Field, columns: Field, weight: Field) -> Field:
    """Share each weight between the four pixels around its place; weights outside the image are dropped."""
    wide = plane.width + 3  # a margin of one pixel before and two behind receives what is outside
    rows = np.clip(rows.ravel() + 1, 0, plane.height + 1)
    columns = np.clip(columns.ravel() + 1, 0, plane.width + 1)
    place = rows.astype(np.intp)
    rows -= place
    column = columns.astype(np.intp)
    columns -= column
    place *= wide
    place += column
    upper, lower = weight.ravel() * (1 - rows), weight.ravel() * rows
    total = np.zeros(wide * (plane.height + 3))
    for offset, share in ((0, upper), (wide, lower)):
        right = share * columns
        total += np.bincount(place + offset, share - right, len(total))
        total += np.bincount(place + (offset + 1), right, len(total))
    return total.reshape(-1, wide)[1:-2, 1:-2].astype(np.float32)


def cloud(plane: Plane, grain_cm: float, rng: np.random.Generator) -> Field:
    """Return smooth noise (height, width) of mean 0 and deviation about 1, with blobs about `grain_cm` wide."""
    rows = max(3, round(plane.height * plane.pitch / grain_cm) + 2)
    columns = max(3, round(plane.width * plane.pitch / grain_cm) + 2)
    coarse = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    noise: Field = np.asarray(coarse.resize((plane.width, plane.height), Image.Resampling.BICUBIC), np.float32)
    return 1.4 * noise


def smoothstep(value: Field, low: float | Field, high: float | Field) -> Field:
    """Return 0 below `low`, 1 above `high`, smooth between; a falling step if `low` is the larger one."""
    t: Field = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _resample(plane: Plane, strands: Strands) -> tuple[Points, Points, Points]:
    """Return points, radius and density of the same tubes with about one point per pixel."""
    n, t, _ = strands.points.shape
    lengths = np.linalg.norm(np.diff(strands.points, axis=1), axis=-1).sum(axis=1)
    count = max(t, int(np.ceil(lengths.max() / plane.pitch)))
    place = np.linspace(0, t - 1, count)
    low = np.minimum(place.astype(int), t - 2)
    share = place - low

    def at(values: Points) -> Points:
        values = np.broadcast_to(values, (n, t)) if values.ndim < 3 else values
        part = share.reshape(-1, *[1] * (values.ndim - 2))
        resampled: Points = values[:, low] * (1 - part) + values[:, low + 1] * part
        return resampled

    return at(strands.points), at(np.asarray(strands.radius)), at(np.asarray(strands.density))


def _offsets(plane: Plane, radius: Points) -> Field:
    """Return evenly spread places across a tube, -1 to 1, at most one pixel apart for the thickest."""
    count = max(3, int(np.ceil(2 * radius.max() / plane.pitch)))
    return (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / count) - 1


def _chord(across: Field, strands: Strands) -> Field:
    """Return the depth of a tube at each place across, less its marrow."""
    outer: Field = np.sqrt(1 - across**2)
    if not strands.hollow:
        return outer
    inner: Field = np.sqrt(np.maximum(strands.hollow**2 - across**2, 0))
    return outer - (1 - strands.marrow) * inner
