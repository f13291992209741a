"""Random numbers of a patient, of the positioning and of the exposure."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

View = Literal["PA", "AP"]
RIBS = 11
"""Pairs of ribs that reach a frontal image of the chest."""


@dataclass(frozen=True)
class Patient:
    """A chest in cm. Sides are the patient's own; `dome_*` is the height of the lung from apex to diaphragm."""

    sex: Literal["M", "F"]
    age: int
    half_width: float
    half_depth: float
    wall: float
    dome_right: float
    dome_left: float
    dome_curve: float
    apex_roundness: float
    heart_ratio: float
    heart_tilt: float
    heart_lift: float
    aorta: float
    mediastinum: float
    spine_bow: float
    rib_gap: float
    rib_drop: float
    bone: float
    breast: float
    stomach_air: float
    lung_density: float
    vessels: float
    rib_shifts: tuple[float, ...]
    upper_vessels: float = 1.0


@dataclass(frozen=True)
class Positioning:
    """Position and breath of the patient for one image; angles in radians, lengths in cm."""

    view: View
    field_height: float
    offset: tuple[float, float]
    tilt: float
    turn: float
    breath: float
    scapula: float
    arms: float


@dataclass(frozen=True)
class Exposure:
    """How one image was exposed and processed.

    `brightness` is the mean grey (0 to 1) of the automatic exposure, `photons` the number per pixel without a patient,
    `scatter` the share of scattered radiation, `equalising` the share of large shadows that is removed.
    """

    brightness: float
    slope: float
    photons: float
    scatter: float
    equalising: float
    blur_cm: float


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw a healthy adult."""
    sex: Literal["M", "F"] = "F" if rng.random() < 0.48 else "M"
    size = rng.normal(1.0, 0.05) * (0.94 if sex == "F" else 1.03)
    age = int(np.clip(rng.normal(56, 16), 18, 92))
    height = 21.5 * size + rng.normal(0, 0.8)
    return Patient(
        sex=sex,
        age=age,
        half_width=14.2 * size + rng.normal(0, 0.5),
        half_depth=8.6 * size + rng.normal(0, 0.5),
        wall=float(np.clip(rng.normal(2.6, 0.8), 1.4, 5.0)),
        dome_right=height,
        dome_left=height + rng.uniform(0.4, 1.8),
        dome_curve=rng.uniform(0.85, 1.2),
        apex_roundness=rng.uniform(1.9, 2.4),
        heart_ratio=float(np.clip(rng.normal(0.455 + 0.0008 * (age - 50), 0.035), 0.36, 0.58)),
        heart_tilt=rng.uniform(0.50, 0.85),
        heart_lift=rng.uniform(-0.5, 0.7),
        aorta=float(np.clip(rng.normal(0.85 + 0.006 * (age - 40), 0.12), 0.6, 1.5)),
        mediastinum=rng.uniform(1.7, 2.3),
        spine_bow=rng.normal(0, 0.5),
        rib_gap=height / 9.3 * rng.uniform(0.95, 1.06),
        rib_drop=rng.uniform(0.8, 1.2),
        bone=float(np.clip(rng.normal(1.05 - 0.004 * (age - 50), 0.13), 0.6, 1.4)),
        breast=rng.uniform(0.4, 2.8) if sex == "F" else rng.choice([0.0, 0.0, 0.5, 1.0]),
        stomach_air=rng.uniform(0.5, 1.0) if rng.random() < 0.6 else 0.0,
        lung_density=rng.uniform(0.23, 0.31),
        vessels=rng.uniform(0.75, 1.2),
        rib_shifts=tuple(rng.normal(0, 0.22, 2 * RIBS).tolist()),
    )


def draw_positioning(rng: np.random.Generator) -> Positioning:
    """Draw a frontal position: upright from behind (PA) or, less often, from the front in bed (AP)."""
    view: View = "AP" if rng.random() < 0.35 else "PA"
    in_bed = view == "AP"
    return Positioning(
        view=view,
        field_height=rng.uniform(32.0, 37.5),
        offset=(rng.normal(0, 0.8), rng.normal(0, 0.9)),
        tilt=rng.normal(0, 0.05 if in_bed else 0.02),
        turn=rng.normal(0, 0.10 if in_bed else 0.04),
        breath=float(np.clip(rng.normal(-0.9 if in_bed else 0.0, 0.8), -3.0, 1.5)),
        scapula=rng.uniform(0.0, 0.6) if in_bed else rng.uniform(0.6, 1.15),
        arms=rng.uniform(0.0, 0.5) if in_bed else rng.uniform(0.3, 1.0),
    )


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw dose, detector and processing, which do not depend on the patient's disease."""
    return Exposure(
        brightness=rng.uniform(0.40, 0.56),
        slope=rng.uniform(2.2, 3.2),
        photons=float(np.exp(rng.uniform(np.log(1.5e4), np.log(9e4)))),
        scatter=rng.uniform(0.08, 0.30),
        equalising=rng.uniform(0.15, 0.5),
        blur_cm=rng.uniform(0.04, 0.10),
    )


def breathing(patient: Patient, position: Positioning) -> Patient:
    """Return the patient as the image shows them: the diaphragm moved by the breath, the heart enlarged in AP."""
    magnified = 1.10 if position.view == "AP" else 1.0
    return replace(
        patient,
        dome_right=patient.dome_right + position.breath,
        dome_left=patient.dome_left + position.breath,
        heart_ratio=patient.heart_ratio * magnified * (1 - 0.012 * position.breath),
    )
