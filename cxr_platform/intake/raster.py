"""Decoder of PNG and JPEG files, through Pillow.

Colour becomes grey by the luma weights of ITU-R BT.601 (Pillow's "L"). Alpha is composited on black, the colour of the
letterbox. CMYK JPEGs are inverted, as Adobe writes them; Pillow assumes the same. The EXIF orientation is applied.
8-bit values are taken as they are. 16-bit grey gets the percentile window of the profile, because scanners store 10 to
14 of 16 bits and do not state how many.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.codestream import check_scans
from cxr_platform.intake.grey_image import GreyImage, check_pixels, percentile_window

SIXTEEN_BIT_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})
"""Pillow's modes of 16-bit grey PNGs; Pillow reduces 16-bit colour to 8 bits."""
PNG_BIT_DEPTH = 24
"""Position of the bit depth in a PNG, in its IHDR chunk. A JPEG that Pillow reads always has 8 bits."""


def decode_raster(data: bytes, container: str, config: DecodingConfig) -> GreyImage:
    """Decode a file of the format `container`, "PNG" or "JPEG", and no other.

    Raises `ImageRefused`: `too-large` before any pixel is decoded, `undecodable` for what Pillow cannot read and for a
    JPEG with too many scans (`codestream.check_scans`).
    """
    if container == "JPEG":
        check_scans(data)
    try:
        with Image.open(io.BytesIO(data), formats=[container]) as image:
            check_pixels(*image.size, config)
            mode = image.mode
            ImageOps.exif_transpose(image, in_place=True)  # no copy if there is nothing to turn
            values = _grey(image, config)
    except ImageRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("too-large", str(error)) from error
    except Exception as error:  # hostile bytes raise anything: struct.error, SyntaxError, zlib.error, MemoryError, …
        raise ImageRefused("undecodable", f"{container}: {error or type(error).__name__}") from error
    return GreyImage(values, data[PNG_BIT_DEPTH] if container == "PNG" else 8, mode, container)


def _grey(image: Image.Image, config: DecodingConfig) -> NDArray[np.uint8] | NDArray[np.float32]:
    if image.mode in SIXTEEN_BIT_MODES:
        return percentile_window(np.asarray(image), config)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    return np.asarray(image.convert("L"))
