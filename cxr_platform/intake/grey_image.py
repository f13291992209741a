"""The grey image that every decoder returns, the limit on its pixels, and windowing of grey values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom_source import DicomSource

COLOUR_SIDE = 64
LARGEST_PIXEL = 4
"""Bytes per pixel with which an image may have `max_pixels`: four channels of 8 bits, or grey of 32."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, the weights of Pillow's "L"."""


@dataclass(frozen=True, eq=False)
class GreyImage:
    """One decoded image, upright.

    `values` is (height, width), uint8 or float32, from 0 (black) to 255 (white); air is dark; a large JPEG is reduced
    (`raster`). `width` and `height` are those of the file, upright. `container` is PNG, JPEG or DICOM. `bit_depth`
    counts the bits per sample in the file; `color_mode` is Pillow's mode of a PNG or JPEG (L, RGB, P, I;16, …), or the
    Photometric Interpretation (0028,0004) of a DICOM object. `colours` are those of
    `average_colours`, `None` for an image without any. `view`, `patient`, `sex` (M or F) and `age` (years) come from a
    DICOM header, each is `None` if not given; so do `other_body_part` (a word of `vocabulary.other_body_part`) and
    `for_processing` (Presentation Intent Type), and `source` if it was asked for.
    """

    values: NDArray[np.uint8] | NDArray[np.float32]
    width: int
    height: int
    bit_depth: int
    color_mode: str
    container: str
    colours: NDArray[np.float32] | None = None
    view: str | None = None
    other_body_part: str | None = None
    for_processing: bool = False
    patient: str | None = None
    sex: str | None = None
    age: float | None = None
    source: DicomSource | None = None


def average_colours(image: Image.Image) -> NDArray[np.float32]:
    """Return the RGB colours, 0 to 1, of an image in any mode as averages (`COLOUR_SIDE`, `COLOUR_SIDE`, 3).

    Averages are free of the colour noise of JPEG and of cameras.
    """
    side = (COLOUR_SIDE, COLOUR_SIDE)
    # Whole pixels are averaged first, which is several times faster for a large image.
    coloured = image if image.mode == "RGB" else image.convert("RGB")
    small = coloured.resize(side, Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small, np.float32) / np.float32(255)


def check_pixels(width: int, height: int, config: DecodingConfig, pixel_bytes: int = 1) -> None:
    """Raise `ImageRefused` (undecodable, too-large) for a size, before anything of that size is allocated.

    `pixel_bytes` are those of a decoded pixel with all its channels.
    """
    if width < 1 or height < 1:
        raise ImageRefused("undecodable", f"the header gives {width} × {height} pixels")
    if width * height > config.max_pixels:
        raise ImageRefused("too-large", f"{width} × {height} pixels, the limit is {config.max_pixels:,} pixels")
    most = LARGEST_PIXEL * config.max_pixels
    if width * height * pixel_bytes > most:
        raise ImageRefused(
            "too-large",
            f"{width} × {height} pixels of {pixel_bytes} bytes, the limit is {most:,} bytes; save it in grey",
        )


def percentile_window(
    values: NDArray[Any], config: DecodingConfig, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Scale grey values of any range to 0..255: the profile's two percentiles become black and white.

    Percentiles are taken of the values `inside`, or of all values by default. If both are the same value, the result is
    black.
    """
    counted = values if inside is None else values[inside]
    low, high = np.percentile(counted, [config.percentile_low, config.percentile_high])
    return scale(values, float(low), float(high))


def scale(values: NDArray[Any], black: float, white: float) -> NDArray[np.float32]:
    """Map `black` to 0 and `white` to 255 and clip the rest; all 0 if the two are the same value."""
    if not abs(white - black) > 0:
        return np.zeros(values.shape, np.float32)
    grey: NDArray[np.float32]
    if values.dtype == np.float64:  # rescaled values may be huge and differ by less than a step of float32
        grey = np.subtract(values, black, out=np.empty(values.shape, np.float32), casting="same_kind")
    else:
        grey = values.astype(np.float32)  # and in place from here: an image may have fifty million pixels
        grey -= black
    grey *= 255 / (white - black)
    np.clip(grey, 0, 255, out=grey)
    return grey
