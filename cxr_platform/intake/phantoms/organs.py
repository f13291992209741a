"""Soft organs as maps of thickness (cm along the ray at each pixel), and the pulmonary vessels as tubes.

The proportions were chosen by eye beside real images of adults; they are not an atlas.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cxr_platform.intake.phantoms.anatomy import Patient, Positioning
from cxr_platform.intake.phantoms.projection import Field, Plane, Points, Strands, shadow, smoothstep

VESSEL_POINTS = 20  # of each vessel
LUNG_EDGE, APEX, VISIBLE_HEART = 0.02, 0.4, 1.5
"""Where a reader sees the lungs' outline: `Chest.outward`, and cm below the apices and of heart in front."""
BEFORE_SPINE = 0.25  # share of the lungs' depth that meets in front of and behind the mediastinum


@dataclass(frozen=True)
class Chest:
    """One patient on one image plane. Every map is (height, width), in cm unless stated otherwise."""

    patient: Patient
    position: Positioning
    plane: Plane

    @cached_property
    def _xy(self) -> tuple[Field, Field]:
        return self.plane.coordinates()

    @property
    def x(self) -> Field:
        """Distance to the patient's left."""
        return self._xy[0]

    @property
    def y(self) -> Field:
        """Distance below the apices."""
        return self._xy[1]

    @cached_property
    def left(self) -> Field:
        """1 on the patient's left, 0 on the right."""
        return (self.x > 0).astype(np.float32)

    @cached_property
    def half_width(self) -> Field:
        """The inner half width of the rib cage at a pixel's height."""
        return cage_half_width(self.patient, self.y)

    @cached_property
    def dome(self) -> Field:
        """The y of the diaphragm below or above a pixel."""
        p, side = self.patient, np.abs(self.x)
        crown = p.dome_right + (p.dome_left - p.dome_right) * smoothstep(self.x, -2.5, 2.5)
        from_crown = (side - 0.42 * p.half_width) / (0.62 * p.half_width)
        lateral = np.clip(from_crown, 0, 1.1)
        medial = np.clip(-from_crown, 0, 1)
        fall = p.dome_curve * (4.6 * lateral**2.3 + 1.6 * medial**2)
        return (crown + fall).astype(np.float32)

    @cached_property
    def above(self) -> Field:
        """The height over the diaphragm; negative below it."""
        return self.dome - self.y

    @cached_property
    def outward(self) -> Field:
        """0 at the mediastinum, 1 at the chest wall (no unit)."""
        edge = self.patient.mediastinum * (0.82 + 0.5 * np.exp(-np.clip(self.y, 0, None) / 2.0))
        outward: Field = (np.abs(self.x) - edge) / np.maximum(self.half_width - edge, 0.5)
        return outward

    @cached_property
    def cage(self) -> Field:
        """The depth of the rib cage."""
        p = self.patient
        depth = p.half_depth * (self.half_width / p.half_width) ** 0.8
        return 2 * depth * chord(self.x / np.maximum(self.half_width, 0.3))

    @cached_property
    def air(self) -> Field:
        """Healthy lung."""
        lung: Field = np.clip(self.cage - self.heart - self.vessel_pedicle, 0, None)
        beside = BEFORE_SPINE + (1 - BEFORE_SPINE) * smoothstep(self.outward, -0.09, 0.12)
        lung = lung * beside * smoothstep(self.y, -0.1, 1.2)
        recess = 0.16 * np.exp(np.minimum(self.above, 0) / 2.2)
        air: Field = lung * (recess + (1 - recess) * smoothstep(self.above, -0.25, 0.3))
        return air

    @cached_property
    def whole_lungs(self) -> NDArray[np.bool_]:
        """True on the lungs, also on what lies behind the heart, to the apices and the crowns of the diaphragm."""
        inside = (self.outward > LUNG_EDGE) & (self.outward < 1)
        return np.asarray(inside & (self.above > 0) & (self.y > APEX))

    @cached_property
    def aerated_lungs(self) -> NDArray[np.bool_]:
        """True on the lungs beside the heart and the great vessels."""
        return np.asarray(self.whole_lungs & (np.maximum(self.heart, self.vessel_pedicle) < VISIBLE_HEART))

    @cached_property
    def heart(self) -> Field:
        """The heart, lying to the left."""
        p = self.patient
        half = p.heart_ratio * p.half_width
        long, short = half * 1.12, half * 0.70
        cx = 0.36 * half + self.plane.shift(4.0)
        cy = 0.5 * (p.dome_left + p.dome_right) - 0.62 * short + p.heart_lift
        cosine, sine = np.cos(p.heart_tilt), np.sin(p.heart_tilt)
        dx, dy = self.x - cx, self.y - cy
        along, across = (cosine * dx + sine * dy) / long, (cosine * dy - sine * dx) / short
        return 2 * 1.2 * short * chord(np.sqrt(along**2 + across**2))

    @cached_property
    def vessel_pedicle(self) -> Field:
        """Aortic arch, pulmonary trunk, right atrium and vena cava, and the tissue between the lungs."""
        p, half = self.patient, self.patient.heart_ratio * self.patient.half_width
        turned = self.plane.shift(2.0)
        base = 0.5 * (p.dome_left + p.dome_right)
        x = self.x - turned
        arch = _ellipse(x - 1.5 - 0.6 * p.aorta, self.y - 0.30 * base, 1.9 * p.aorta, 1.9 * p.aorta, 7)
        trunk = _ellipse(x - 2.2, self.y - 0.46 * base, 2.2, 2.6, 4.5)
        cava = _ellipse(x + 1.3, self.y - 0.34 * base, 1.7, 8.0, 4)
        atrium = _ellipse(x + 0.20 * half, self.y - 0.76 * base, 0.46 * half, 5.0, 8)
        descending = _ellipse(self.x - 1.5 - 0.5 * p.aorta, self.y - 0.75 * base, 1.5, 0.5 * base, 3)
        pedicle: Field = np.maximum.reduce([arch, trunk, cava, atrium, descending])
        return pedicle

    @cached_property
    def body(self) -> Field:
        """The whole body, lungs included."""
        p = self.patient
        side = np.abs(self.x)
        flank = self.half_width + p.wall
        below = np.clip(self.y - p.dome_right - 4, 0, None)
        trunk = 2 * (p.half_depth + 0.8 * p.wall) * chord(side / (flank + 0.05 * below)) * smoothstep(self.y, -4.5, 4)
        neck_half = 5.6 + 0.4 * p.wall + 0.04 * np.clip(self.y + 6, 0, None) ** 2
        neck = 11.0 * chord(side / neck_half) * smoothstep(self.y, 7, 0)
        shoulder = 12.0 * chord(np.sqrt(((side - 13.5) / (7.2 + p.wall)) ** 2 + ((self.y - 4.0) / 6.6) ** 2))
        slope = 11.0 * chord(np.sqrt(((side - 6) / 9.0) ** 2 + ((self.y - 2.5) / (6.2)) ** 2))
        arms = _capsule(side, self.y, arm_axis(p, self.position), 3.4 + 0.45 * p.wall)
        squares = [part * part for part in (trunk, neck, shoulder, slope, arms)]
        body: Field = np.sqrt(np.sqrt(sum(square * square for square in squares)))
        return body

    @cached_property
    def breasts(self) -> Field:
        """Breast (or pectoral) tissue in front of the lower lungs."""
        p = self.patient
        if p.breast <= 0:
            return np.zeros_like(self.x)
        cy = 0.80 * p.dome_right + 0.25 * p.breast
        wide, tall = 5.2 + 0.5 * p.breast, 4.2 + 0.75 * p.breast
        dx, dy = np.abs(self.x - self.plane.shift(9)) - 0.62 * p.half_width, self.y - cy
        lower = np.where(dy > 0, dy / (0.62 * tall), dy / (1.5 * tall))
        return 1.25 * p.breast * chord(np.sqrt((dx / wide) ** 2 + lower**2))

    @cached_property
    def gas(self) -> Field:
        """Air outside the lungs: windpipe, main bronchi, stomach bubble."""
        p, carina = self.patient, 0.40 * self.patient.dome_right
        turned = self.plane.shift(-1.0)
        down = np.linspace(0, 1, 12)[:, None]
        pipe = np.array([0.0, -9.0, 0.0]) + down * np.array([0.35, carina + 9.0, -1.0])
        right = pipe[-1] + down * np.array([-3.4, 2.9, 0.0])
        left = pipe[-1] + down * np.array([3.9, 2.3, 0.0])
        radius = np.array([[0.95], [0.65], [0.6]])
        tubes = shadow(self.plane, Strands(np.stack([pipe, right, left]), radius, np.ones((3, 1))))
        x, y = self.x - 6.2 - turned, self.y - p.dome_left - 2.6
        bubble = p.stomach_air * _ellipse(x, y, 3.0, 1.7, 5)
        return tubes + bubble * smoothstep(self.above, 0.2, -0.7)


def cage_half_width(patient: Patient, y: Field) -> Field:
    """Return the inner half width (cm) of the rib cage at depth `y` below the apices."""
    depth = np.clip(y / (0.86 * patient.dome_right), 0, None)
    n = patient.apex_roundness
    upper = np.clip(1 - np.clip(1 - depth, 0, 1) ** n, 0, 1) ** (1 / n)
    taper = 1 - 0.05 * np.clip(depth - 1, 0, 1) ** 2
    half_width: Field = patient.half_width * upper * taper
    return half_width


def arm_axis(patient: Patient, position: Positioning) -> tuple[Points, Points]:
    """Return (x, y) of the left shoulder joint and of the elbow; `Positioning.arms` is 0 at the sides, 1 held away."""
    shoulder = np.array([patient.half_width + patient.wall + 2.4, 3.4])
    angle = 0.12 + 0.55 * position.arms
    return shoulder, shoulder + 30 * np.array([np.sin(angle), np.cos(angle)])


def _capsule(x: Field, y: Field, axis: tuple[Points, Points], radius: float) -> Field:
    """Return the thickness of a rod with round ends."""
    start, end = axis
    along = end - start
    share = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / float(along @ along), 0, 1)
    distance = np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1])
    return 2 * radius * chord(distance / radius)


def chord(ratio: Field) -> Field:
    """Return half the chord of a circle of radius 1 at distance `ratio` from its centre: 1 at the centre."""
    half: Field = np.sqrt(np.clip(1 - ratio * ratio, 0, None))
    return half


def _ellipse(dx: Field, dy: Field, wide: float, tall: float, depth: float) -> Field:
    share: Field = np.sqrt(np.clip(1 - (dx / wide) ** 2 - (dy / tall) ** 2, 0, None))
    return depth * share


def hilum(patient: Patient, side: int) -> Points:
    """Return (x, y, z) in cm where the vessels of a lung begin; `side` is -1 on the right, 1 on the left."""
    return np.array([side * (patient.mediastinum + 0.9), 0.5 * patient.dome_right - 0.7 * (side > 0), 0.0])


def vessel_tree(patient: Patient, rng: np.random.Generator) -> list[Strands]:
    """Return the vessels of both lungs by generation; lower ones are thicker, as in a standing patient."""
    sides = [_vessels_of_side(patient, side, rng) for side in (-1, 1)]
    return [
        Strands(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.radius for part in parts]),
            np.concatenate([part.density for part in parts]),
        )
        for parts in zip(*sides, strict=True)
    ]


def _vessels_of_side(patient: Patient, side: int, rng: np.random.Generator) -> list[Strands]:
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
    """Return the main artery's arch and its descending branch, the bulk of the hilar shadow."""
    t = np.linspace(0, 1, VESSEL_POINTS)[:, None]
    root = hilum(patient, side)
    down = root + t * np.array([side * 0.9, 5.2, 0]) + np.sin(np.pi * t) * np.array([side * 0.7, 0, 0])
    up = root + t * np.array([side * 1.5, -3.4, 0])
    radius = np.stack(
        [np.linspace(0.78, 0.38, VESSEL_POINTS), np.linspace(0.62, 0.24 * patient.upper_vessels, VESSEL_POINTS)]
    )
    density = np.stack([np.linspace(1.3, 1.0, VESSEL_POINTS)] * 2)
    return Strands(np.stack([down, up]), radius * patient.vessels, density)


def _branch(parent: Strands, children: int, side: int, rng: np.random.Generator) -> Strands:
    """Return `children` thinner vessels from places along each parent."""
    n = len(parent.points) * children
    owner = np.repeat(np.arange(len(parent.points)), children)
    place = rng.integers(VESSEL_POINTS // 4, VESSEL_POINTS - 3, n)
    start = parent.points[owner, place]
    heading = parent.points[owner, place + 2] - parent.points[owner, place]
    angles = np.arctan2(heading[:, 1], side * heading[:, 0]) + rng.choice([-1, 1], n) * rng.uniform(0.3, 0.9, n)
    left = np.linalg.norm(parent.points[owner, -1] - start, axis=1)
    lengths = 1.0 + left * rng.uniform(0.5, 0.9, n)
    return _grow(start, angles, lengths, parent.radius[owner, place] * rng.uniform(0.6, 0.85, n), side, rng)


def _grow(
    start: Points, angles: Points, lengths: Points, radii: Points, side: int, rng: np.random.Generator
) -> Strands:
    """Return gently winding, tapering tubes; `angles` are radians below the horizontal that points outwards."""
    n, t = len(angles), np.linspace(0, 1, VESSEL_POINTS)
    sway = 0.16 * np.sin(t * rng.uniform(4, 9, (n, 1)) + rng.uniform(0, 6, (n, 1)))
    bend = angles[:, None] + rng.normal(0, 0.28, (n, 1)) * t + sway
    step = lengths[:, None] / VESSEL_POINTS
    x = np.cumsum(side * np.cos(bend) * step, axis=1)
    y = np.cumsum(np.sin(bend) * step, axis=1)
    z = rng.normal(0, 0.45, (n, 1)) * lengths[:, None] * t
    points = start[:, None, :] + np.stack([x, y, z], axis=-1)
    return Strands(points, radii[:, None] * (1 - 0.72 * t), np.full((n, VESSEL_POINTS), 1.5))
