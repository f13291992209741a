"""A side view of the chest, which a study of frontal images must leave out."""

import numpy as np

from cxr_platform.intake.phantoms.anatomy import Patient, draw_exposure, draw_patient, draw_positioning
from cxr_platform.intake.phantoms.annotation import annotate
from cxr_platform.intake.phantoms.exposure import BONE_EXCESS, SOFT_TISSUE, expose
from cxr_platform.intake.phantoms.organs import chord
from cxr_platform.intake.phantoms.plane import Field, Plane, Strands, shadow, smoothstep


def draw_lateral(rng: np.random.Generator, size: int) -> tuple[Field, Patient]:
    """A left lateral image, `size` pixels high, 0 to 1, of a healthy patient who looks to the left of the picture."""
    patient, position, exposure = draw_patient(rng), draw_positioning(rng), draw_exposure(rng)
    width = round(size * rng.uniform(0.88, 1.0))
    plane = Plane(size, width, 36.0 / size, (0.5, 12.0), position.tilt)
    x, y = plane.coordinates()
    tissue = _body(patient, x, y) - (1 - patient.lung_density) * _lungs(patient, x, y)
    bone = patient.bone * (shadow(plane, _ribs(patient)) + _spine(patient, x, y))
    picture = expose(SOFT_TISSUE * 0.8 * np.clip(tissue, 0, None) + BONE_EXCESS * bone, plane, exposure, rng)
    return annotate(picture, "LAT", rng), patient


def _body(patient: Patient, x: Field, y: Field) -> Field:
    half = patient.half_depth + 1.6 * patient.wall
    trunk = 2 * patient.half_width * chord((x - 0.4) / half) * smoothstep(y, -7, 5)
    neck = 11 * chord((x - 2.5) / 5.5) * smoothstep(y, 6, -2)
    raised_arms = 13 * chord(np.hypot((x + 4.0) / 9.0, (y + 7.5) / 7.0))
    return np.maximum.reduce([trunk, neck, raised_arms])


def _lungs(patient: Patient, x: Field, y: Field) -> Field:
    share = np.clip(y / (0.8 * patient.dome_right), 0, 1)
    half = patient.half_depth * np.sqrt(np.clip(1 - (1 - share) ** 2.2, 0.003, None))
    centre = 1.6 * (1 - share) - 0.8 * np.sin(np.pi * share)
    sides = 1.35 * patient.half_width * np.sqrt(chord((x - centre) / half))
    domes = sum(smoothstep(_dome(patient, x, drop) - y, -0.3, 0.3) for drop in (0.0, 1.6)) / 2
    heart = 15 * chord(np.hypot((x + 3.4 + 0.25 * (y - 16)) / 5.2, (y - patient.dome_right + 3.0) / 6.2))
    hila = 2.4 * chord(np.hypot((x - 0.6) / 2.4, (y - 9.5) / 3.6))
    return np.clip(sides * domes * smoothstep(y, 0, 2.5) - np.maximum(heart, hila), 0, None)


def _dome(patient: Patient, x: Field, drop: float) -> Field:
    return patient.dome_right + drop + 5.0 * np.clip((x + 3) / patient.half_depth, -0.3, 1.3) ** 2


def _spine(patient: Patient, x: Field, y: Field) -> Field:
    centre = patient.half_depth - 0.2 - 2.6 * ((y - 11) / 15) ** 2
    phase = np.mod(y / patient.rib_gap + 0.35, 1.0)
    plates = np.exp(-(((np.abs(phase - 0.5) - 0.4) / 0.05) ** 2))
    return smoothstep(np.abs(x - centre), 1.9, 1.2) * (0.9 + 0.8 * plates)


def _ribs(patient: Patient) -> Strands:
    """Both sides' ribs, one side a little larger because it stood further from the image."""
    number, t = np.arange(10)[:, None], np.linspace(0, 1, 30)[None, :]
    x = 0.94 * patient.half_depth * np.cos(np.pi * t * 0.8) + 0.0 * number
    y = 0.93 * number * patient.rib_gap + 9.5 * t**1.4 - 0.5
    near = np.stack([x, y, np.zeros_like(x)], axis=-1)
    points = np.concatenate([near, near * [1.06, 1.04, 1.0] + [0.2, 0.5, 0.0]])
    density = np.tile(0.55 * smoothstep(t, 1.0, 0.6), (20, 1))
    return Strands(points, np.full((20, 1), 0.55), density, hollow=0.78)
