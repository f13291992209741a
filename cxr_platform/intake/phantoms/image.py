"""Draw one image from its key alone: a patient, a disease, a position and an exposure; or a lateral view."""

from dataclasses import dataclass, replace

import numpy as np

from cxr_platform.intake.phantoms.anatomy import (
    Patient,
    Positioning,
    breathing,
    draw_exposure,
    draw_patient,
    draw_positioning,
)
from cxr_platform.intake.phantoms.organs import Chest, chord, vessel_tree
from cxr_platform.intake.phantoms.projection import Field, Plane, Strands, cloud, shadow, smoothstep
from cxr_platform.intake.phantoms.rendering import BONE_EXCESS, SOFT_TISSUE, annotate, expose
from cxr_platform.intake.phantoms.signs import LungSigns, draw_severity, lung_signs, reshape
from cxr_platform.intake.phantoms.skeleton import skeleton
from cxr_platform.labels import class_index


@dataclass(frozen=True)
class ImageKey:
    """Identifies an image, which depends on these four values and nothing else."""

    seed: int
    label: str
    patient: int
    image: int


@dataclass(frozen=True)
class Drawing:
    """A drawn image: `picture` is (height, width) from 0 (black) to 1; `chest` is what was drawn."""

    picture: Field
    chest: Chest

    @property
    def patient(self) -> Patient:
        """The patient, breathing as drawn."""
        return self.chest.patient

    @property
    def position(self) -> Positioning:
        """View and position of the patient."""
        return self.chest.position


def patient_streams(key: ImageKey) -> list[np.random.Generator]:
    """Return the generators of anatomy, vessels and disease, the same for every image of a patient."""
    sequence = np.random.SeedSequence((key.seed, class_index(key.label), key.patient, 0))
    return [np.random.default_rng(child) for child in sequence.spawn(3)]


def image_stream(key: ImageKey) -> np.random.Generator:
    """Return the generator of what differs between images of a patient."""
    return np.random.default_rng(np.random.SeedSequence((key.seed, class_index(key.label), key.patient, 1 + key.image)))


def draw_image(key: ImageKey, size: int) -> Drawing:
    """Draw the image of `key`, `size` pixels high and between 0.88 and 1.12 times as wide."""
    anatomy, branches, disease = patient_streams(key)
    rng = image_stream(key)
    position, exposure = draw_positioning(rng), draw_exposure(rng)
    healthy = draw_patient(anatomy)
    severity = float(np.clip(draw_severity(anatomy) + rng.normal(0, 0.05), 0.05, 1))
    patient = breathing(reshape(key.label, healthy, severity), position)
    chest = Chest(patient, position, _plane(patient, position, size, rng))
    disease_signs = lung_signs(key.label, chest, severity, disease)
    attenuation = _attenuation(chest, _with_common_haze(chest, disease_signs, rng), branches)
    picture = expose(attenuation, chest.plane, exposure, rng)
    return Drawing(annotate(picture, position.view, rng), chest)


def _plane(patient: Patient, position: Positioning, size: int, rng: np.random.Generator) -> Plane:
    """Return the image plane, centred and opened to hold the lungs."""
    width = round(size * rng.uniform(0.88, 1.12))
    centre = (position.offset[0], 0.47 * patient.dome_right + 1.2 + position.offset[1])
    field_height = position.field_height * max(1.0, patient.dome_right / 23.0)
    return Plane(size, width, field_height / size, centre, position.tilt, position.turn)


def _with_common_haze(chest: Chest, added: LungSigns, rng: np.random.Generator) -> LungSigns:
    """Add what any lung may show: crowded bases after a shallow breath, a faint patch, uneven aeration."""
    shallow = 0.04 * max(0.0, -chest.position.breath) * smoothstep(chest.above, 6.0, 1.0)
    x, y = rng.uniform(-10, 10), rng.uniform(4, 20)
    patch = np.exp(-(((chest.x - x) / 3.5) ** 2) - ((chest.y - y) / 3.0) ** 2)
    uneven = 0.02 * cloud(chest.plane, 5.0, rng) + 0.02 * cloud(chest.plane, 1.0, rng)
    fill = added.fill + shallow + rng.uniform(0, 0.06) * patch + uneven
    return replace(added, fill=np.clip(fill, -0.15, 0.95))


def _attenuation(chest: Chest, added: LungSigns, branches: np.random.Generator) -> Field:
    """Return the line integral of attenuation (no unit) from the X-ray tube to each pixel."""
    patient, plane = chest.patient, chest.plane
    aerated = np.clip(chest.air / 4, 0, 1)
    vessels = sum(shadow(plane, part) for part in [*vessel_tree(patient, branches), *added.tissue])
    bronchi = sum((shadow(plane, part) for part in added.gas), np.zeros_like(chest.x))
    air = chest.air * (1 - added.fill) * (1 - patient.lung_density)
    air = air + bronchi * np.clip(added.fill * 2, 0, 1) * aerated + chest.gas
    tissue = chest.body + chest.breasts - air + 0.75 * vessels * aerated
    attenuation: Field = SOFT_TISSUE * np.clip(tissue, 0, None) + BONE_EXCESS * skeleton(chest)
    return attenuation


def draw_lateral(rng: np.random.Generator, size: int) -> tuple[Field, Patient]:
    """Draw a left lateral image, `size` pixels high, 0 to 1, of a healthy patient who faces the left of the picture."""
    patient, position, exposure = draw_patient(rng), draw_positioning(rng), draw_exposure(rng)
    width = round(size * rng.uniform(0.88, 1.0))
    plane = Plane(size, width, 36.0 / size, (0.5, 12.0), position.tilt)
    x, y = plane.coordinates()
    tissue = _lateral_body(patient, x, y) - (1 - patient.lung_density) * _lateral_lungs(patient, x, y)
    bone = patient.bone * (shadow(plane, _lateral_ribs(patient)) + _lateral_spine(patient, x, y))
    picture = expose(SOFT_TISSUE * 0.8 * np.clip(tissue, 0, None) + BONE_EXCESS * bone, plane, exposure, rng)
    return annotate(picture, "LAT", rng), patient


def _lateral_body(patient: Patient, x: Field, y: Field) -> Field:
    half = patient.half_depth + 1.6 * patient.wall
    trunk = 2 * patient.half_width * chord((x - 0.4) / half) * smoothstep(y, -7, 5)
    neck = 11 * chord((x - 2.5) / 5.5) * smoothstep(y, 6, -2)
    raised_arms = 13 * chord(np.hypot((x + 4.0) / 9.0, (y + 7.5) / 7.0))
    body: Field = np.maximum.reduce([trunk, neck, raised_arms])
    return body


def _lateral_lungs(patient: Patient, x: Field, y: Field) -> Field:
    share = np.clip(y / (0.8 * patient.dome_right), 0, 1)
    half = patient.half_depth * np.sqrt(np.clip(1 - (1 - share) ** 2.2, 0.003, None))
    centre = 1.6 * (1 - share) - 0.8 * np.sin(np.pi * share)
    sides = 1.35 * patient.half_width * np.sqrt(chord((x - centre) / half))
    domes = sum(smoothstep(_lateral_dome(patient, x, drop) - y, -0.3, 0.3) for drop in (0.0, 1.6)) / 2
    heart = 15 * chord(np.hypot((x + 3.4 + 0.25 * (y - 16)) / 5.2, (y - patient.dome_right + 3.0) / 6.2))
    hila = 2.4 * chord(np.hypot((x - 0.6) / 2.4, (y - 9.5) / 3.6))
    lungs: Field = np.clip(sides * domes * smoothstep(y, 0, 2.5) - np.maximum(heart, hila), 0, None)
    return lungs


def _lateral_dome(patient: Patient, x: Field, drop: float) -> Field:
    dome: Field = patient.dome_right + drop + 5.0 * np.clip((x + 3) / patient.half_depth, -0.3, 1.3) ** 2
    return dome


def _lateral_spine(patient: Patient, x: Field, y: Field) -> Field:
    centre = patient.half_depth - 0.2 - 2.6 * ((y - 11) / 15) ** 2
    phase = np.mod(y / patient.rib_gap + 0.35, 1.0)
    plates = np.exp(-(((np.abs(phase - 0.5) - 0.4) / 0.05) ** 2))
    spine: Field = smoothstep(np.abs(x - centre), 1.9, 1.2) * (0.9 + 0.8 * plates)
    return spine


def _lateral_ribs(patient: Patient) -> Strands:
    """Return the ribs of both sides; one side is a little larger because it is further from the detector."""
    number, t = np.arange(10)[:, None], np.linspace(0, 1, 30)[None, :]
    x = 0.94 * patient.half_depth * np.cos(np.pi * t * 0.8) + 0.0 * number
    y = 0.93 * number * patient.rib_gap + 9.5 * t**1.4 - 0.5
    near = np.stack([x, y, np.zeros_like(x)], axis=-1)
    points = np.concatenate([near, near * [1.06, 1.04, 1.0] + [0.2, 0.5, 0.0]])
    density = np.tile(0.55 * smoothstep(t, 1.0, 0.6), (20, 1))
    return Strands(points, np.full((20, 1), 0.55), density, hollow=0.78)
