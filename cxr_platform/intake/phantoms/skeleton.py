"""Bones as tubes: ribs, clavicles, shoulder blades, arms, and the spine."""

import numpy as np
from PIL import Image, ImageDraw

from cxr_platform.intake.phantoms.anatomy import RIBS, Patient, Positioning
from cxr_platform.intake.phantoms.organs import Chest, arm_axis, cage_half_width
from cxr_platform.intake.phantoms.projection import Field, Points, Strands, shadow, smoothstep


def skeleton(chest: Chest) -> Field:
    """Return the path length (cm) of compact bone at each pixel."""
    patient, plane = chest.patient, chest.plane
    bones = sum(
        shadow(plane, bone)
        for bone in (ribs(patient), clavicles(patient, chest.position), humeri(patient, chest.position))
    )
    return patient.bone * (bones + scapulae(chest) + spine(chest))


def ribs(patient: Patient) -> Strands:
    """Return eleven pairs of ribs, each from the spine round the flank to the beginning of its cartilage."""
    number = np.arange(RIBS)[:, None]
    reach = np.interp(number, [0, 1, 6, 8, 10], [2.65, 2.6, 2.45, 2.1, 1.7])
    angle = np.linspace(0.055, 1, 48)[None, :] * reach
    forward = (1 - np.cos(angle)) / 2
    drop = patient.rib_drop * np.interp(number, [0, 2, 6, 10], [4.6, 8.0, 10.5, 10.0])
    y = -1.3 + number * patient.rib_gap * 0.93 + drop * forward - 0.55 * np.sin(2 * angle).clip(0) * (number > 0)
    wide = cage_half_width(patient, y + 0.9) + 0.35
    x = np.maximum(wide, 4.0) * np.sin(angle)
    z = -patient.half_depth * np.cos(angle) * np.interp(number, [0, 3], [0.5, 1.0])
    right = np.stack([-x, y, z], axis=-1)
    both = np.concatenate([right, right * [-1, 1, 1]])
    both[..., 1] += np.array(patient.rib_shifts)[:, None]
    breadth = 0.62 * np.interp(number, [0, 1, 5, 9], [1.0, 0.95, 1.0, 0.85]) * np.ones_like(angle)
    breadth = breadth * np.interp(angle, [0, 0.8, 2.4], [0.85, 1.0, 1.12])
    ends = smoothstep(angle, reach + 0.02, reach - 0.25) * smoothstep(angle, 0.1, 0.4)
    density = ends * np.interp(angle, [0, 1.2, 2.4], [0.95, 0.68, 0.7])
    return Strands(both, np.tile(breadth, (2, 1)), np.tile(density, (2, 1)), hollow=0.78, marrow=0.45)


def clavicles(patient: Patient, position: Positioning) -> Strands:
    """Return two S-shaped collar bones from the breast bone to the shoulders."""
    t = np.linspace(0, 1, 24)
    reach = patient.half_width + 1.8
    x = 1.7 + t * (reach - 1.7)
    lift = 1.2 + (1.6 if position.view == "AP" else 0.0) + position.arms
    y = 4.0 - lift * t - 0.7 * np.sin(2 * np.pi * (t - 0.04))
    z = 7.5 - 9.0 * t
    left = np.stack([x, y, z], axis=-1)
    radius = np.interp(t, [0, 0.02, 0.12, 0.5, 0.85, 0.97, 1], [0.5, 0.95, 0.65, 0.55, 0.7, 0.65, 0.2])[None, :]
    return Strands(np.stack([left, left * [-1, 1, 1]]), radius, np.full((2, 1), 0.95), hollow=0.72, marrow=0.4)


def humeri(patient: Patient, position: Positioning) -> Strands:
    """Return both upper arm bones with their heads."""
    shoulder, elbow = arm_axis(patient, position)
    t = np.linspace(0, 1, 60)
    start = shoulder - 0.04 * (elbow - shoulder)
    path = start + t[:, None] * (elbow - start)
    left = np.concatenate([path, np.zeros((60, 1))], axis=1)
    radius = np.interp(t, [0, 0.01, 0.04, 0.07, 0.13, 0.2, 1], [0.2, 1.5, 2.2, 2.1, 1.4, 1.1, 1.1])[None, :]
    return Strands(np.stack([left, left * [-1, 1, 1]]), radius, np.full((2, 1), 0.40), hollow=0.7, marrow=0.4)


def scapulae(chest: Chest) -> Field:
    """Return the thin blades with denser borders; `Positioning.scapula` is how far they are turned off the lungs."""
    patient, off = chest.patient, chest.position.scapula
    inner = patient.half_width * (0.62 + 0.30 * off)
    outer = patient.half_width + 2.6
    upper, lower = 2.2, 2.2 + 0.66 * patient.dome_right
    across = np.array([inner, outer, outer - 0.4, inner + 1.3, inner - 0.3, inner])
    down = np.array([upper + 1.0, upper, upper + 3.2, lower, upper + 5.0, upper + 1.0])
    border = _smooth_path(np.stack([across, down], axis=-1), 40)
    across = np.array([inner, inner + 2.5, outer - 1.0, outer + 1.2])
    down = upper + np.array([3.0, 2.0, -0.6, -1.4])
    ridge = _smooth_path(np.stack([across, down], axis=-1), 40)
    lines = np.stack([_on_both_sides(border), _on_both_sides(ridge)]).reshape(4, 40, 3)
    radius = np.array([[0.38], [0.38], [0.5], [0.5]])
    density = np.array([[0.45], [0.45], [0.5], [0.5]])
    blade = 0.22 * _inside(chest, border)
    return blade + shadow(chest.plane, Strands(lines, radius, density, hollow=0.6))


def spine(chest: Chest) -> Field:
    """Return vertebral bodies with end plates and discs, arches, and the spinous processes."""
    near = np.flatnonzero((np.abs(chest.x) < 5).any(axis=0))
    strip = np.s_[:, near[0] : near[-1] + 1] if len(near) else np.s_[:, :0]
    bone = np.zeros_like(chest.x)
    bone[strip] = _vertebrae(chest, chest.x[strip], chest.y[strip])
    return bone


def _vertebrae(chest: Chest, x: Field, y: Field) -> Field:
    patient = chest.patient
    x = x - patient.spine_bow * np.sin(y / 9.0) - chest.plane.shift(-5.0)
    pitch = patient.rib_gap * 0.98
    phase = np.mod(y / pitch + 0.35, 1.0)
    half = 1.55 + 0.03 * np.clip(y, 0, None) + 0.22 * np.abs(2 * phase - 1) ** 2
    column = smoothstep(np.abs(x), half + 0.12, half - 0.35)
    plates = np.exp(-(((np.abs(phase - 0.5) - 0.40) / 0.05) ** 2))
    disc = smoothstep(np.abs(phase - 0.5), 0.42, 0.46)
    body = column * (0.6 + 0.5 * plates - 0.4 * disc)
    rim = 0.3 * np.exp(-(((np.abs(x) - half + 0.2) / 0.14) ** 2)) * (1 - disc)
    pedicle = 0.45 * _ring(np.abs(x) - 1.15, (phase - 0.36) * pitch, 0.42)
    process = 0.6 * np.exp(-((x / 0.28) ** 2) - (((phase - 0.78) * pitch / 0.55) ** 2))
    bone: Field = body + rim + pedicle + process
    return bone


def _ring(dx: Field, dy: Field, radius: float) -> Field:
    ring: Field = np.exp(-(((np.sqrt(dx * dx + (dy / 1.3) ** 2) - radius) / 0.16) ** 2))
    return ring


def _smooth_path(corners: Points, count: int) -> Points:
    """Return `count` points (x, y) along a path with rounded `corners`."""
    t = np.linspace(0, len(corners) - 1, count)
    path = np.stack([np.interp(t, np.arange(len(corners)), corners[:, i]) for i in (0, 1)], axis=-1)
    for _ in range(3):
        path[1:-1] = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
    return path


def _on_both_sides(path: Points) -> Points:
    left = np.concatenate([path, np.full((len(path), 1), -7.0)], axis=1)
    return np.stack([left, left * [-1, 1, 1]])


def _inside(chest: Chest, border: Points) -> Field:
    """Return 1 inside the closed path on either side, 0 outside."""
    plane = chest.plane
    picture = Image.new("L", (plane.width, plane.height))
    for path in _on_both_sides(border):
        rows, columns = plane.project(path)
        ImageDraw.Draw(picture).polygon(list(zip(columns.tolist(), rows.tolist(), strict=True)), fill=255)
    return np.asarray(picture, np.float32) / 255
