"""From the letterboxed film to the size that a network sees: the one function that training and serving share."""

import numpy as np
from PIL import Image


def resize_films(films: np.ndarray, size: int) -> np.ndarray:
    """uint8 films (N, s, s) → (N, size, size), anti-aliased (Pillow's Lanczos filter grows with the reduction)."""
    if films.shape[1] == size:
        return films
    resized = np.empty((len(films), size, size), "uint8")
    for row, film in enumerate(films):
        resized[row] = Image.fromarray(film).resize((size, size), Image.Resampling.LANCZOS)
    return resized
