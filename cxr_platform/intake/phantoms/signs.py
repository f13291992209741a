"""The radiological signs of each class: changes of the anatomy, and what is added to the lungs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from scipy.spatial import Voronoi

from cxr_platform.intake.phantoms.anatomy import Patient
from cxr_platform.intake.phantoms.organs import Chest, cage_half_width, hilum
from cxr_platform.intake.phantoms.projection import Field, Points, Strands, cloud, smoothstep


@dataclass(frozen=True)
class LungSigns:
    """`fill` is the share of the lung's air that fluid replaces (0 to 1, height × width); then tissue and air tubes."""

    fill: Field
    tissue: list[Strands] = field(default_factory=list)
    gas: list[Strands] = field(default_factory=list)


Shape = Callable[[Patient, float], Patient]
AddSigns = Callable[[Chest, float, np.random.Generator], LungSigns]


def draw_severity(rng: np.random.Generator) -> float:
    """Return a severity from 0.7 to 1 (obvious), of 0 to 1: signs that a short training learns."""
    return float(0.70 + 0.30 * rng.beta(1.6, 1.1))


def reshape(label: str, patient: Patient, severity: float) -> Patient:
    """Return the anatomy of `patient` with the disease `label`."""
    shape = SHAPES.get(label)
    return shape(patient, severity) if shape else patient


def lung_signs(label: str, chest: Chest, severity: float, rng: np.random.Generator) -> LungSigns:
    """Return what the disease `label` adds to the lungs of `chest`; nothing for Normal and Emphysema."""
    add = LUNG_SIGNS.get(label)
    return add(chest, severity, rng) if add else LungSigns(np.zeros_like(chest.x))


def covid19(chest: Chest, severity: float, rng: np.random.Generator) -> LungSigns:
    """Ground glass on both sides, in the periphery of the lower zones, patchy."""
    sides = rng.uniform(0.6, 1.0, 2)
    patches = smoothstep(cloud(chest.plane, 4.0, rng), -1.2 + 0.6 * (1 - severity), 0.9)
    grain = 1 + 0.12 * cloud(chest.plane, 0.9, rng)
    periphery = smoothstep(chest.outward, 0.15, 0.8)
    lower = smoothstep(_down(chest), 0.22, 0.62)
    return LungSigns((0.40 + 0.60 * severity) * _by_side(chest, sides) * periphery * lower * patches * grain)


def edema(chest: Chest, severity: float, rng: np.random.Generator) -> LungSigns:
    """Haze around both hila like the wings of a bat, and Kerley's B lines above the angles."""
    hilum = 0.54 * chest.patient.dome_right
    wide, tall = rng.uniform(0.42, 0.62), rng.uniform(5.0, 7.0)
    wings = np.exp(-((chest.outward / wide) ** 2) - ((chest.y - hilum) / tall) ** 2)
    soft = 1 + 0.22 * cloud(chest.plane, 2.2, rng)
    lines = septal_lines(chest.patient, severity, rng)
    return LungSigns((0.40 + 0.58 * severity) * wings * soft * _by_side(chest, rng.uniform(0.8, 1.0, 2)), [lines])


def effusion(chest: Chest, severity: float, rng: np.random.Generator) -> LungSigns:
    """Fluid that blunts the costophrenic angle and rises along the wall: on one side, or less often on both."""
    sides = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[rng.choice(3, p=[0.38, 0.34, 0.28])]
    heights = severity * rng.uniform(0.75, 1.1, 2) * sides
    height = _by_side(chest, heights)
    corner = chest.patient.dome_right + 3.2 * chest.patient.dome_curve
    rise = rng.uniform(3.0, 5.5) * height**0.5 * np.clip(chest.outward, 0, 1) ** 3
    surface = corner - 0.6 - 7.5 * height - rise
    fluid = smoothstep(chest.y - surface, -0.5, 1.3 + 1.2 * (1 - chest.outward.clip(0, 1)))
    return LungSigns(np.where(height > 0, 0.96 * fluid, 0))


def fibrosis(chest: Chest, severity: float, rng: np.random.Generator) -> LungSigns:
    """A fine net of lines in the bases and the periphery."""
    base = smoothstep(_down(chest), 0.35, 0.85) * (0.4 + 0.6 * smoothstep(chest.outward, 0.2, 0.9))
    haze = (0.10 + 0.32 * severity) * base * (1 + 0.3 * cloud(chest.plane, 1.0, rng))
    return LungSigns(haze, [reticulation(chest.patient, severity, rng)])


def pneumonia(chest: Chest, severity: float, rng: np.random.Generator) -> LungSigns:
    """One lobe consolidated: dense, soft towards its own lung, straight along its fissure, with air in its bronchi."""
    side, down, out, fissure = LOBES[rng.choice(len(LOBES), p=LOBE_SHARES)]
    height = chest.patient.dome_right
    y0, u0 = (down + rng.normal(0, 0.03)) * height, out + rng.normal(0, 0.06)
    tall, wide = rng.uniform(4.6, 6.6), rng.uniform(0.48, 0.70)
    zone = np.exp(-_fourth_power((chest.y - y0) / tall) - _fourth_power((chest.outward - u0) / wide) / 1.5)
    beyond = fissure * (chest.y - y0 + rng.uniform(-0.25, 0.25) * (np.abs(chest.x) - 7)) - 0.55 * tall
    bounded = zone * smoothstep(beyond, 0.4, -0.7) if fissure else zone
    texture = 1 + 0.10 * cloud(chest.plane, 1.5, rng)
    fill = (0.68 + 0.32 * severity) * bounded * texture
    return LungSigns(np.where(chest.x * side > 0, fill, 0), gas=[air_bronchograms(chest.patient, side, y0, u0, rng)])


LOBES: tuple[tuple[int, float, float, int], ...] = (
    (-1, 0.24, 0.55, 1),  # right upper, bounded below by the horizontal fissure
    (-1, 0.70, 0.35, -1),  # middle, bounded above by it
    (-1, 0.86, 0.60, 0),  # right lower
    (1, 0.30, 0.50, 0),  # left upper
    (1, 0.66, 0.55, 0),  # lingula
    (1, 0.86, 0.65, 0),  # left lower
)
"""Side, depth as a share of the lung's height, 0 medial to 1 lateral, and the fissure that a frontal image shows:
+1 below, -1 above, 0 none."""
LOBE_SHARES = (0.14, 0.20, 0.28, 0.10, 0.12, 0.16)
"""Probability of each lobe."""


def _failing_heart(patient: Patient, severity: float) -> Patient:
    return replace(
        patient,
        heart_ratio=patient.heart_ratio + 0.06 * severity,
        vessels=patient.vessels * (1 + 0.30 * severity),
        upper_vessels=1 + 0.8 * severity,
    )


def _inflated(patient: Patient, severity: float) -> Patient:
    lower = 1.8 + 4.4 * severity
    return replace(
        patient,
        dome_right=patient.dome_right + lower,
        dome_left=patient.dome_left + lower,
        dome_curve=patient.dome_curve * (1 - 0.70 * severity),
        half_depth=patient.half_depth * (1 + 0.10 * severity),
        heart_ratio=patient.heart_ratio * (1 - 0.18 * severity),
        lung_density=patient.lung_density * (1 - 0.45 * severity),
        rib_gap=patient.rib_gap * (1 + 0.08 * severity),
        vessels=patient.vessels * (1 - 0.45 * severity),
    )


def _shrunken(patient: Patient, severity: float) -> Patient:
    loss = 0.6 + 2.0 * severity
    return replace(patient, dome_right=patient.dome_right - loss, dome_left=patient.dome_left - loss)


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {"Edema": _failing_heart, "Emphysema": _inflated, "Fibrosis": _shrunken},
)
LUNG_SIGNS: Mapping[str, AddSigns] = MappingProxyType(
    {"Covid19": covid19, "Edema": edema, "Effusion": effusion, "Fibrosis": fibrosis, "Pneumonia": pneumonia},
)


def _down(chest: Chest) -> Field:
    """Return 0 at the apex, 1 at the crown of the diaphragm (no unit)."""
    return chest.y / chest.patient.dome_right


def _by_side(chest: Chest, right_left: Field) -> Field:
    """Return the first value on the patient's right, the second on the left."""
    right, left = np.asarray(right_left, np.float32)
    values: Field = right + (left - right) * chest.left
    return values


def _fourth_power(value: Field) -> Field:
    square = value * value
    return square * square


def septal_lines(patient: Patient, severity: float, rng: np.random.Generator) -> Strands:
    """Return Kerley's B lines: short, level, one above the other at the wall of the lower zones."""
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
    """Return the walls of a fine irregular honeycomb, densest in the bases and at the wall."""
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
    density = (5.0 + 11.0 * severity) * rng.uniform(0.5, 1.4, (int(kept.sum()), 1))
    points: Points = np.concatenate([ends[kept], np.zeros((len(density), 2, 1))], axis=-1)
    return Strands(points, np.full((len(density), 1), 0.10), density)


def air_bronchograms(patient: Patient, side: int, y: float, outward: float, rng: np.random.Generator) -> Strands:
    """Return bronchi that stay full of air within a consolidation around (`outward`, `y`)."""
    n, t = 5, np.linspace(0, 1, 14)[:, None]
    start = hilum(patient, side)
    reach = patient.mediastinum + outward * (patient.half_width - patient.mediastinum)
    targets = np.stack(
        [side * reach + rng.normal(0, 1.6, n), y + rng.normal(0, 2.0, n), rng.normal(0, 1.5, n)], axis=-1
    )
    bend = rng.normal(0, 0.5, (n, 1, 3)) * np.sin(np.pi * t)
    points = start + (targets[:, None] - start) * (0.25 + 0.85 * t) + bend
    return Strands(points, 0.30 - 0.17 * t.T + np.zeros((n, 1)), np.full((n, 1), 1.2))
