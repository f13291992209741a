"""The pulmonary vessels: trees that leave the hila, branch and thin out towards the chest wall."""

import numpy as np

from cxr_platform.intake.phantoms.anatomy import Patient
from cxr_platform.intake.phantoms.plane import Points, Strands

STEPS = 20


def hilum(patient: Patient, side: int) -> Points:
    """Where the vessels of a lung begin: (x, y, z) cm; `side` is -1 on the right, 1 on the left."""
    return np.array([side * (patient.mediastinum + 0.9), 0.5 * patient.dome_right - 0.7 * (side > 0), 0.0])


def vessel_tree(patient: Patient, rng: np.random.Generator) -> list[Strands]:
    """Both lungs' vessels by generation, thicker downwards than upwards as in someone who stands."""
    sides = [_one_side(patient, side, rng) for side in (-1, 1)]
    return [_together(list(generation)) for generation in zip(*sides, strict=True)]


def _one_side(patient: Patient, side: int, rng: np.random.Generator) -> list[Strands]:
    angles = np.concatenate([rng.uniform(-1.5, -0.5, 5), rng.uniform(-0.5, 0.35, 4), rng.uniform(0.35, 1.45, 7)])
    upward = angles < -0.3
    n = len(angles)
    lengths = np.where(upward, 8.5, 10.5) * rng.uniform(0.75, 1.1, n) * patient.dome_right / 21.5
    radii = np.where(upward, 0.30 * patient.upper_vessels, 0.40) * rng.uniform(0.7, 1.25, n) * patient.vessels
    start = hilum(patient, side) + rng.normal(0, [0.45, 0.9, 1.0], (n, 3))
    first = _grow(start, angles, lengths, radii, side, rng)
    trunks = _trunks(patient, side)
    second = _branch(first, 3, side, rng)
    third = _branch(second, 2, side, rng)
    return [trunks, first, second, third]


def _trunks(patient: Patient, side: int) -> Strands:
    """The main artery's arch and its descending branch, the bulk of the hilar shadow."""
    t = np.linspace(0, 1, STEPS)[:, None]
    root = hilum(patient, side)
    down = root + t * np.array([side * 0.9, 5.2, 0]) + np.sin(np.pi * t) * np.array([side * 0.7, 0, 0])
    up = root + t * np.array([side * 1.5, -3.4, 0])
    radius = np.stack([np.linspace(0.78, 0.38, STEPS), np.linspace(0.62, 0.24 * patient.upper_vessels, STEPS)])
    density = np.stack([np.linspace(1.3, 1.0, STEPS)] * 2)
    return Strands(np.stack([down, up]), radius * patient.vessels, density)


def _branch(parent: Strands, children: int, side: int, rng: np.random.Generator) -> Strands:
    """`children` thinner vessels from places along each parent."""
    n = len(parent.points) * children
    owner = np.repeat(np.arange(len(parent.points)), children)
    place = rng.integers(STEPS // 4, STEPS - 3, n)
    start = parent.points[owner, place]
    heading = parent.points[owner, place + 2] - parent.points[owner, place]
    angles = np.arctan2(heading[:, 1], side * heading[:, 0]) + rng.choice([-1, 1], n) * rng.uniform(0.3, 0.9, n)
    left = np.linalg.norm(parent.points[owner, -1] - start, axis=1)
    lengths = 1.0 + left * rng.uniform(0.5, 0.9, n)
    return _grow(start, angles, lengths, parent.radius[owner, place] * rng.uniform(0.6, 0.85, n), side, rng)


def _grow(
    start: Points, angles: Points, lengths: Points, radii: Points, side: int, rng: np.random.Generator
) -> Strands:
    """Gently winding, tapering tubes. `angles` are radians below the horizontal that points outwards."""
    n, t = len(angles), np.linspace(0, 1, STEPS)
    sway = 0.16 * np.sin(t * rng.uniform(4, 9, (n, 1)) + rng.uniform(0, 6, (n, 1)))
    bend = angles[:, None] + rng.normal(0, 0.28, (n, 1)) * t + sway
    step = lengths[:, None] / STEPS
    x = np.cumsum(side * np.cos(bend) * step, axis=1)
    y = np.cumsum(np.sin(bend) * step, axis=1)
    z = rng.normal(0, 0.45, (n, 1)) * lengths[:, None] * t
    points = start[:, None, :] + np.stack([x, y, z], axis=-1)
    return Strands(points, radii[:, None] * (1 - 0.72 * t), np.full((n, STEPS), 1.5))


def _together(parts: list[Strands]) -> Strands:
    return Strands(
        np.concatenate([p.points for p in parts]),
        np.concatenate([p.radius for p in parts]),
        np.concatenate([p.density for p in parts]),
    )
