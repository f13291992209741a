"""Fine structures of disease as tubes: Kerley's lines, a reticular net, air bronchograms."""

import numpy as np
from scipy.spatial import Voronoi

from cxr_platform.intake.phantoms.anatomy import Patient
from cxr_platform.intake.phantoms.organs import cage_half_width
from cxr_platform.intake.phantoms.plane import Points, Strands
from cxr_platform.intake.phantoms.vessels import hilum


def septal_lines(patient: Patient, severity: float, rng: np.random.Generator) -> Strands:
    """Kerley's B lines: short, level, one above the other at the wall of the lower zones."""
    n = rng.integers(3, 6) + round(7 * severity)
    side = rng.choice([-1, 1], n)
    y = patient.dome_right + rng.uniform(-6.0, 2.0, n)
    outer = cage_half_width(patient, y) - rng.uniform(0.3, 0.7, n)
    length = rng.uniform(1.2, 2.6, n)
    t = np.linspace(0, 1, 4)
    x = side[:, None] * (outer[:, None] - length[:, None] * t)
    level = y[:, None] + 0.25 * t * rng.normal(0, 1, (n, 1))
    points = np.stack([x, level, np.zeros_like(x)], axis=-1)
    return Strands(points, np.full((n, 1), 0.09), np.full((n, 1), 5.0 + 5.0 * severity))


def reticulation(patient: Patient, severity: float, rng: np.random.Generator) -> Strands:
    """The walls of a fine irregular honeycomb, densest in the bases and at the wall."""
    cell = rng.uniform(0.85, 1.25)
    width, low = patient.half_width, patient.dome_right + 4.0
    n = int(2 * width * low / cell**2)
    mesh = Voronoi(rng.uniform([-width, 0.0], [width, low], (n, 2)))
    ridges = np.array([r for r in mesh.ridge_vertices if -1 not in r])
    ends = mesh.vertices[ridges]
    middle = ends.mean(axis=1)
    outward = np.abs(middle[:, 0]) / np.maximum(cage_half_width(patient, middle[:, 1]), 1.0)
    down = middle[:, 1] / patient.dome_right
    weight = np.clip((down - 0.45) / 0.45, 0, 1) * np.clip((outward - 0.1) / 0.6, 0.25, 1) + 0.3 * (outward > 0.85) * (
        down > 0.3
    )
    kept = rng.random(len(ends)) < weight * (0.55 + 0.45 * severity)
    kept &= np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1) < 3 * cell
    density = (3.0 + 6.5 * severity) * rng.uniform(0.5, 1.4, (int(kept.sum()), 1))
    return Strands(_flat(ends[kept]), np.full((len(density), 1), 0.10), density)


def air_bronchograms(patient: Patient, side: int, y: float, outward: float, rng: np.random.Generator) -> Strands:
    """Bronchi that stay full of air within a consolidation around (`outward`, `y`)."""
    n, t = 5, np.linspace(0, 1, 14)[:, None]
    start = hilum(patient, side)
    reach = patient.mediastinum + outward * (patient.half_width - patient.mediastinum)
    targets = np.stack(
        [side * reach + rng.normal(0, 1.6, n), y + rng.normal(0, 2.0, n), rng.normal(0, 1.5, n)], axis=-1
    )
    bend = rng.normal(0, 0.5, (n, 1, 3)) * np.sin(np.pi * t)
    points = start + (targets[:, None] - start) * (0.25 + 0.85 * t) + bend
    return Strands(points, 0.30 - 0.17 * t.T + np.zeros((n, 1)), np.full((n, 1), 1.2))


def _flat(points: Points) -> Points:
    return np.concatenate([points, np.zeros((*points.shape[:-1], 1))], axis=-1)
