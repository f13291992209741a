"""From attenuation to the finished picture: exposure and processing, then letters, leads, beam edges and the mark."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cxr_platform.intake.phantoms.anatomy import Exposure
from cxr_platform.intake.phantoms.projection import Field, Plane

SOFT_TISSUE = 0.19  # linear attenuation per cm at about 70 keV effective (NIST XCOM, water)
BONE_EXCESS = 0.30  # what a cm of bone adds to that
SKIN_ATTENUATION = 0.35  # from which a pixel is part of the patient
MARK = "SYNTHETIC"


def expose(attenuation: Field, plane: Plane, exposure: Exposure, rng: np.random.Generator) -> Field:
    """Return the processed picture, 0 (black, unattenuated) to 1 (white), of a map of attenuation (no unit, ≥ 0).

    Adds scatter, quantum noise and the blur of the detector.
    """
    through = np.exp(-attenuation)
    softened = _wide_blur(through * np.minimum(attenuation, 1), plane, 3.0)
    signal = (1 - exposure.scatter) * through + exposure.scatter * softened
    signal = ndimage.gaussian_filter(signal, exposure.blur_cm / plane.pitch)
    signal += np.sqrt(signal / exposure.photons) * rng.standard_normal(signal.shape, dtype=np.float32)
    signal = ndimage.gaussian_filter(signal, 0.4)
    measured = -np.log(np.clip(signal, 2e-3, 1))
    return _process(measured, attenuation > SKIN_ATTENUATION, plane, exposure)


def _process(measured: Field, patient: NDArray[np.bool_], plane: Plane, exposure: Exposure) -> Field:
    """Equalise large shadows in part, then apply the characteristic curve that gives the requested brightness."""
    flat = measured - exposure.equalising * _wide_blur(measured, plane, 4.0)
    sample = flat[::4, ::4]
    low, high = np.percentile(sample[patient[::4, ::4]], [1.0, 99.0])
    scaled = (flat - low) / max(high - low, 1e-3)
    scaled = np.maximum(scaled, -0.25)
    return _curve(scaled, exposure.slope, _speed(scaled[::4, ::4], exposure))


def _curve(scaled: Field, slope: float, speed: float) -> Field:
    """Return a sigmoid from 0 at the blackest of `scaled` (-0.25) towards 1."""
    toe = 1 / (1 + np.exp(slope * 1.6 * (0.25 + speed)))
    curve: Field = (1 / (1 + np.exp(-slope * 1.6 * (scaled - speed))) - toe) / (1 - toe)
    return curve


def _speed(sample: Field, exposure: Exposure) -> float:
    """Return the middle of the curve at which the mean grey is `Exposure.brightness`, by bisection."""
    low, high = -1.0, 2.0
    for _ in range(14):
        middle = (low + high) / 2
        if _curve(sample, exposure.slope, middle).mean() > exposure.brightness:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _wide_blur(picture: Field, plane: Plane, radius_cm: float) -> Field:
    """Return the picture after a Gaussian filter of several cm, computed on a coarse copy because it has no detail."""
    coarse = max(1, int(radius_cm / plane.pitch / 3))
    size = (max(8, plane.width // coarse), max(8, plane.height // coarse))
    small = np.asarray(Image.fromarray(picture.astype(np.float32)).resize(size, Image.Resampling.BOX), np.float32)
    small = ndimage.gaussian_filter(small, radius_cm / plane.pitch / (plane.width / size[0]), mode="nearest")
    wide = Image.fromarray(small).resize((plane.width, plane.height), Image.Resampling.BICUBIC)
    return np.asarray(wide, np.float32)


def annotate(picture: Field, view: str, rng: np.random.Generator) -> Field:
    """Add beam edges, letters and leads, none of which depends on the class, and the mark to a picture (0 to 1)."""
    height = picture.shape[0]
    canvas = Image.fromarray((255 * np.clip(collimate(picture, rng), 0, 1)).astype(np.float32))
    if rng.random() < 0.15:
        _leads(canvas, rng)
    if rng.random() < 0.75:
        _side_letter(canvas, rng)
    if rng.random() < 0.35:
        _write(canvas, view if rng.random() < 0.5 else "PORTABLE", (0.03, 0.08), 0.03 * height)
    burn_mark(canvas, rng)
    return np.asarray(canvas, np.float32) / 255


def collimate(picture: Field, rng: np.random.Generator) -> Field:
    """Black out up to 5 % at each edge, on about half of the images."""
    if rng.random() < 0.5:
        return picture
    height, width = picture.shape
    top, bottom, left, right = (rng.uniform(0, 0.05, 4) * [height, height, width, width]).astype(int)
    framed = np.zeros_like(picture)
    inner = (slice(top, height - bottom), slice(left, width - right))
    framed[inner] = picture[inner]
    return framed


def burn_mark(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Write SYNTHETIC at one of six places along the upper and the lower edge."""
    across, down = rng.choice([0.02, 0.5, 0.98]), rng.choice([0.015, 0.98])
    anchor = {0.02: "l", 0.5: "m", 0.98: "r"}[float(across)] + ("a" if down < 0.5 else "d")
    _write(canvas, MARK, (float(across), float(down)), 0.052 * canvas.height, anchor)


def _side_letter(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Write L on the patient's left (the right of the picture) or R on the other side."""
    left = rng.random() < 0.5
    place = (rng.uniform(0.90, 0.95) if left else rng.uniform(0.05, 0.10), rng.uniform(0.16, 0.32))
    _write(canvas, "L" if left else "R", place, rng.uniform(0.05, 0.085) * canvas.height, "mm")


def _leads(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Draw one or two thin wires across the chest, each with an electrode."""
    draw = ImageDraw.Draw(canvas)
    size = np.array(canvas.size)
    for _ in range(rng.integers(1, 3)):
        start, end = rng.uniform([0.0, 0.0], [1.0, 0.2]), rng.uniform([0.2, 0.3], [0.8, 0.8])
        t = np.linspace(0, 1, 24)[:, None]
        path = (start + (end - start) * t + rng.normal(0, 0.12, 2) * np.sin(np.pi * t)) * size
        draw.line([tuple(p) for p in path.tolist()], fill=float(rng.uniform(195, 235)), width=max(1, size[1] // 260))
        x, y = path[-1]
        r = 0.011 * size[1]
        draw.ellipse([x - r, y - r, x + r, y + r], fill=float(rng.uniform(205, 240)))


def _write(canvas: Image.Image, text: str, place: tuple[float, float], pixels: float, anchor: str = "la") -> None:
    """Write white letters with a dark edge; `place` is a share of the width and of the height."""
    font = ImageFont.load_default(max(9, round(pixels)))
    at = (place[0] * canvas.width, place[1] * canvas.height)
    edge = max(1, canvas.height // 320)
    ImageDraw.Draw(canvas).text(at, text, fill=245.0, font=font, anchor=anchor, stroke_width=edge, stroke_fill=20.0)
