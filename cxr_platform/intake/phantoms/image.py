"""One image: a patient, a disease, a position and an exposure, drawn from one key and nothing else."""

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
from cxr_platform.intake.phantoms.annotation import annotate
from cxr_platform.intake.phantoms.exposure import BONE_EXCESS, SOFT_TISSUE, expose
from cxr_platform.intake.phantoms.organs import Chest
from cxr_platform.intake.phantoms.plane import Field, Plane, cloud, shadow, smoothstep
from cxr_platform.intake.phantoms.signs import Findings, draw_severity, find, reshape
from cxr_platform.intake.phantoms.skeleton import skeleton
from cxr_platform.intake.phantoms.vessels import vessel_tree
from cxr_platform.labels import class_index


@dataclass(frozen=True)
class ImageKey:
    """Which image: everything about it follows from these four, whatever else is drawn."""

    seed: int
    label: str
    patient: int
    image: int


@dataclass(frozen=True)
class Drawing:
    """`picture` is (height, width) from 0, black, to 1; `patient` and `position` say what was drawn."""

    picture: Field
    patient: Patient
    position: Positioning


def patient_streams(key: ImageKey) -> list[np.random.Generator]:
    """Three generators that are the same for every image of a patient: anatomy, vessels, disease."""
    sequence = np.random.SeedSequence((key.seed, class_index(key.label), key.patient, 0))
    return [np.random.default_rng(child) for child in sequence.spawn(3)]


def image_stream(key: ImageKey) -> np.random.Generator:
    """The generator of what changes from image to image."""
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
    findings = find(key.label, chest, severity, disease)
    attenuation = _attenuation(chest, _with_common_haze(chest, findings, rng), branches)
    picture = expose(attenuation, chest.plane, exposure, rng)
    return Drawing(annotate(picture, position.view, rng), patient, position)


def _plane(patient: Patient, position: Positioning, size: int, rng: np.random.Generator) -> Plane:
    """The image as it is centred and opened to hold the lungs."""
    width = round(size * rng.uniform(0.88, 1.12))
    centre = (position.offset[0], 0.47 * patient.dome_right + 1.2 + position.offset[1])
    field_height = position.field_height * max(1.0, patient.dome_right / 23.0)
    return Plane(size, width, field_height / size, centre, position.tilt, position.turn)


def _with_common_haze(chest: Chest, findings: Findings, rng: np.random.Generator) -> Findings:
    """What any lung may show: crowded bases after a shallow breath, a faint patch, uneven aeration."""
    shallow = 0.04 * max(0.0, -chest.position.breath) * smoothstep(chest.above, 6.0, 1.0)
    x, y = rng.uniform(-10, 10), rng.uniform(4, 20)
    patch = np.exp(-(((chest.x - x) / 3.5) ** 2) - ((chest.y - y) / 3.0) ** 2)
    uneven = 0.02 * cloud(chest.plane, 5.0, rng) + 0.02 * cloud(chest.plane, 1.0, rng)
    fill = findings.fill + shallow + rng.uniform(0, 0.06) * patch + uneven
    return replace(findings, fill=np.clip(fill, -0.15, 0.95))


def _attenuation(chest: Chest, findings: Findings, branches: np.random.Generator) -> Field:
    """The line integral (no unit) from the tube to each pixel."""
    patient, plane = chest.patient, chest.plane
    aerated = np.clip(chest.air / 4, 0, 1)
    vessels = sum(shadow(plane, part) for part in [*vessel_tree(patient, branches), *findings.tissue])
    bronchi = sum((shadow(plane, part) for part in findings.gas), np.zeros_like(chest.x))
    air = chest.air * (1 - findings.fill) * (1 - patient.lung_density)
    air = air + bronchi * np.clip(findings.fill * 2, 0, 1) * aerated + chest.gas
    tissue = chest.body + chest.breasts - air + 0.75 * vessels * aerated
    return SOFT_TISSUE * np.clip(tissue, 0, None) + BONE_EXCESS * skeleton(chest)
