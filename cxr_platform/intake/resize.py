"""From the letterboxed image to the size that a network sees: the one function that training and serving share."""

import numpy as np
from PIL import Image


def resize_images(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 images (N, s, s) → (N, size, size), anti-aliased (Pillow's Lanczos filter grows with the reduction)."""
    if images.shape[1] == size:
        return images
    resized = np.empty((len(images), size, size), "uint8")
    for row, image in enumerate(images):
        resized[row] = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)
    return resized
