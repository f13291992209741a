"""The perceptual hash by which near-duplicates are nominated."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def phash(pixels: NDArray[np.uint8]) -> int:
    """64-bit DCT hash of a letterboxed image, (size, size) uint8, as an unsigned integer, the first bit the highest.

    imagehash's `phash`: the signs, about their median, of the lowest 8 × 8 coefficients of the image at 32 × 32.
    """
    import imagehash

    bits = imagehash.phash(Image.fromarray(pixels), hash_size=8).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
