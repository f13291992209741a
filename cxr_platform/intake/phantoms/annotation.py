"""What is on an image beside the patient: side letters, leads, the edges of the beam, and the mark of a phantom."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr_platform.intake.phantoms.plane import Field

MARK = "SYNTHETIC"


def annotate(picture: Field, view: str, rng: np.random.Generator) -> Field:
    """The picture (0 to 1) with its beam edges, letters and leads, none of which depends on the class, and the mark."""
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
    """L on the patient's left (the right of the picture) or R on the other side."""
    left = rng.random() < 0.5
    place = (rng.uniform(0.90, 0.95) if left else rng.uniform(0.05, 0.10), rng.uniform(0.16, 0.32))
    _write(canvas, "L" if left else "R", place, rng.uniform(0.05, 0.085) * canvas.height, "mm")


def _leads(canvas: Image.Image, rng: np.random.Generator) -> None:
    """One to three thin wires across the chest, each with an electrode."""
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
    """White letters with a dark edge; `place` is a share of the width and of the height."""
    font = ImageFont.load_default(max(9, round(pixels)))
    at = (place[0] * canvas.width, place[1] * canvas.height)
    edge = max(1, canvas.height // 320)
    ImageDraw.Draw(canvas).text(at, text, fill=245.0, font=font, anchor=anchor, stroke_width=edge, stroke_fill=20.0)
