"""PNG and JPEG through Pillow, to grey.

Colour becomes grey by the luma weights of ITU-R BT.601 (Pillow's "L"). Alpha is composited on black, as the letterbox
does with what is not image. CMYK JPEGs are read as Adobe writes them (inverted), which Pillow takes for granted.
The EXIF orientation is applied. 8-bit values are taken as they are; a grey image of 16 bits gets the percentile window
of the profile, because scanners store 10 to 14 bits of sixteen and say nothing of the rest.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.codestream import check_scans
from cxr_platform.intake.grey import GreyImage, check_pixels, percentile_window

SIXTEEN_BIT_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})
"""Pillow's modes of 16-bit grey PNGs; 16-bit colour is cut to 8 bits by Pillow itself."""


def decode_raster(data: bytes, container: str, config: DecodingConfig) -> GreyImage:
    """Decode a PNG or a JPEG (`container`) and nothing else.

    Raises `ImageRefused`: `too-large` before any pixel is decoded, `undecodable` for whatever Pillow cannot read and
    for a JPEG of more scans than any honest one (`codestream.check_scans`).
    """
    if container == "JPEG":
        check_scans(data)
    try:
        with Image.open(io.BytesIO(data), formats=[container]) as image:
            check_pixels(*image.size, config)
            mode = image.mode
            ImageOps.exif_transpose(image, in_place=True)  # which copies nothing where there is nothing to turn
            values = _grey(image, config)
    except ImageRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("too-large", str(error)) from error
    except Exception as error:  # hostile bytes raise anything: struct.error, SyntaxError, zlib.error, MemoryError, …
        raise ImageRefused("undecodable", f"{container}: {error or type(error).__name__}") from error
    return GreyImage(values, _bit_depth(data, container), mode, container)


def _grey(image: Image.Image, config: DecodingConfig) -> NDArray[np.uint8] | NDArray[np.float32]:
    if image.mode in SIXTEEN_BIT_MODES:
        return percentile_window(np.asarray(image), config)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    return np.asarray(image.convert("L"))


def _bit_depth(data: bytes, container: str) -> int:
    """Bits a sample: byte 24 of a PNG (in its IHDR chunk); a JPEG that Pillow reads has always 8."""
    return data[24] if container == "PNG" else 8
