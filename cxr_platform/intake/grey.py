"""A decoded image in grey: what every decoder hands on, the limit on pixels, and the percentile window."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused


@dataclass(frozen=True, eq=False)
class GreyImage:
    """One decoded image, upright, at the size of the file.

    `values` is (height, width), uint8 or float32, from 0 (black) to 255 (white); air is dark. `bit_depth` counts the
    bits a sample that the file stores; `color_mode` is Pillow's mode of a PNG or JPEG (L, RGB, P, I;16, …) and the
    Photometric Interpretation (0028,0004) of a DICOM object. `view`, `patient`, `sex` (M or F) and `age` (years) are
    DICOM's, `None` where not given.
    """

    values: NDArray[np.uint8] | NDArray[np.float32]
    bit_depth: int
    color_mode: str
    container: str
    view: str | None = None
    patient: str | None = None
    sex: str | None = None
    age: float | None = None


def check_pixels(width: int, height: int, config: DecodingConfig) -> None:
    """Refuse a size before anything of that size is allocated; raises `ImageRefused` (undecodable, too-large)."""
    if width < 1 or height < 1:
        raise ImageRefused("undecodable", f"the header gives {width} × {height} pixels")
    if width * height > config.max_pixels:
        raise ImageRefused("too-large", f"{width} × {height} pixels, the limit is {config.max_pixels:,} pixels")


def percentile_window(
    values: NDArray[Any], config: DecodingConfig, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Grey values of any range as 0..255: the profile's two percentiles become black and white, the rest is clipped.

    Only the values `inside` count for the percentiles, all of them where it is not given. An image whose two percentiles
    are the same value comes out black.
    """
    low, high = np.percentile(
        values if inside is None else values[inside], [config.percentile_low, config.percentile_high]
    )
    return scale(values, float(low), float(high))


def scale(values: NDArray[Any], black: float, white: float) -> NDArray[np.float32]:
    """`values` with `black` as 0 and `white` as 255, clipped; all 0 where the two are one value."""
    if not abs(white - black) > 0:
        return np.zeros(values.shape, np.float32)
    grey = values.astype(np.float32)  # and in place from here: an image may have fifty million pixels
    grey -= black
    grey *= 255 / (white - black)
    return np.clip(grey, 0, 255, out=grey)
