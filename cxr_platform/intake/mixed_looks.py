"""Images with a look between their own and that of a donor, an image of any origin.

A head that is trained on them meets more looks than its images have. Each image has several such looks, of donors from
different origins, so that a head can take those alone whose donors it is trained on too.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr_platform.intake.lung_views import equalised

Array = NDArray[Any]

LOOKS = 4
"""Looks of an image. Of two origins that are not trained on there are no donors, and none in a group that is tested."""

STRENGTH = (0.2, 5.0)
"""Bounds of the factors by which a spatial frequency is changed."""
MARKERS, MARKER_SHARE, BORDER_SHARE = "LRABD7P", 0.4, 0.3
BORDER_WIDTH = 0.12


def donors_of_looks(origins: Array, seed: int) -> Array:
    """Return row numbers (L, N): the donor of each look of each image, in the order in which looks are to be preferred.

    `origins` (N,). The donors of an image come from different origins, which are drawn alike whatever their number of
    images; there are at most `LOOKS`.
    """
    random = np.random.default_rng([seed, 3])
    by_origin = [np.flatnonzero(origins == origin) for origin in np.unique(origins)]
    donors = np.empty((min(LOOKS, len(by_origin)), len(origins)), int)
    for image in range(len(origins)):
        order = random.permutation(len(by_origin))[: len(donors)]
        donors[:, image] = [random.choice(by_origin[place]) for place in order]
    return donors


def mixed(images: Array, donors: Array, seed: int) -> Iterator[Array]:
    """Yield each image (N, S, S) with a look between its own and that of the image of its row number in `donors` (N,).

    The look is the mean strength of each spatial frequency, which differs with device, compression and resizing (Yang &
    Soatto 2020 exchange the lowest frequencies alone). Letters and borders are painted in, the grey values bent.
    """
    random = np.random.default_rng([seed, 2])
    rings = _rings(images.shape[1])
    for image, other in zip(images, images[donors], strict=True):
        spectrum, part = np.fft.fft2(image), random.random()
        own, their = (_strengths(each, rings) for each in (spectrum, np.fft.fft2(other)))
        factors = np.clip((their / own) ** part, *STRENGTH)
        factors[0] = 1
        changed = np.fft.ifft2(spectrum * factors[rings]).real
        low, high = changed.min(), max(float(np.ptp(changed)), 1e-6)
        values = equalised(np.rint((changed - low) / high * 255).astype(np.uint8)) / 255
        bent = np.clip(values + random.normal(0, random.uniform(0, 0.04), values.shape), 0, 1)
        yield _painted(np.rint(bent ** np.exp(random.uniform(-0.35, 0.35)) * 255).astype(np.uint8), random)


def _painted(image: Array, random: np.random.Generator) -> Array:
    """Return the image with a letter, a border at one edge, or both or none."""
    size = len(image)
    picture = Image.fromarray(image)
    if random.random() < MARKER_SHARE:
        where = tuple(random.uniform(0, 0.85, 2) * size)
        colour = int(random.choice([0, 255]))
        letter = str(random.choice(list(MARKERS)))
        ImageDraw.Draw(picture).text(where, letter, fill=colour, font_size=size * random.uniform(0.1, 0.25))
    painted = np.array(picture)
    if random.random() < BORDER_SHARE:
        turned = np.rot90(painted, random.integers(4))  # a view of the same pixels
        turned[: 1 + int(random.uniform(0, BORDER_WIDTH) * size)] = int(random.choice([0, 255]))
    return painted


def _rings(size: int) -> Array:
    """Return (size, size) int: the distance of each element of a Fourier transform from frequency 0."""
    along = np.minimum(np.arange(size), size - np.arange(size))
    return np.asarray(np.rint(np.hypot(along[:, None], along[None, :])), int)


def _strengths(spectrum: Array, rings: Array) -> Array:
    counts = np.bincount(rings.ravel())
    return np.asarray(np.bincount(rings.ravel(), np.abs(spectrum).ravel()) / counts + 1e-3)
