"""Decoder of PNG and JPEG files, through Pillow.

Colour becomes grey by the luma weights of ITU-R BT.601 (Pillow's "L"). Alpha is composited on black, the colour of the
letterbox. CMYK JPEGs are inverted, as Adobe writes them; Pillow assumes the same. The EXIF orientation is applied.
8-bit values are taken as they are. 16 bits get the percentile window of the profile, because scanners store 10 to 14 of
16 bits and do not state how many; 16-bit colour, which Pillow reduces to 8 bits, is read by OpenCV. A JPEG that lacks
nothing but its end marker is taken. A JPEG of at least four times the size of the letterbox is decoded at a half, a
quarter or an eighth of its size (libjpeg's reduced inverse DCT), never below twice that of the letterbox: half the time
for radiographs of 1,000 to 2,000 pixels, and the letterboxed pixels differ by 0.25 of 255 on average.
"""

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.codestream import check_chunks, check_scans, with_end_marker
from cxr_platform.intake.grey_image import LUMA, GreyImage, average_colours, check_pixels, percentile_window
from cxr_platform.intake.letterbox import REDUCED_TO_AT_LEAST, content_box

SIXTEEN_BIT_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})
"""Pillow's modes of 16-bit grey PNGs."""
GREY_MODES = SIXTEEN_BIT_MODES | {"1", "L", "LA", "La"}
PNG_BIT_DEPTH = 24
"""Position of the bit depth in a PNG, in its IHDR chunk. A JPEG that Pillow reads always has 8 bits."""
ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


def decode_raster(data: bytes, container: str, config: DecodingConfig) -> GreyImage:
    """Decode a file of the format `container`, "PNG" or "JPEG", and no other.

    Raises `ImageRefused`: `too-large` before any pixel is decoded, `undecodable` for what Pillow cannot read, and for
    a JPEG or PNG of too many parts (`codestream.check_scans`, `check_chunks`).
    """
    (check_scans if container == "JPEG" else check_chunks)(data)
    try:
        return _decode(data, container, config)
    except ImageRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("too-large", str(error)) from error
    except Exception as error:  # hostile bytes raise anything: struct.error, SyntaxError, zlib.error, MemoryError, …
        if container == "JPEG" and (image := _without_end_marker(data, config)):
            return image
        raise ImageRefused("undecodable", f"{container}: {error or type(error).__name__}") from error


def _decode(data: bytes, container: str, config: DecodingConfig, reduced: bool = True) -> GreyImage:
    with Image.open(io.BytesIO(data), formats=[container]) as image:
        mode, depth = image.mode, data[PNG_BIT_DEPTH] if container == "PNG" else 8
        channels = len(image.getbands())
        if depth == 16:  # OpenCV reads grey with alpha as four channels
            channels = 2 * (4 if channels == 2 else channels)
        check_pixels(*image.size, config, channels)
        width, height = image.size
        if image.getexif().get(ORIENTATION, 1) in TURNED:
            width, height = height, width
        if container == "JPEG" and reduced:
            left, top, right, bottom = content_box(*image.size, config.image_size)
            image.draft(None, (REDUCED_TO_AT_LEAST * (right - left), REDUCED_TO_AT_LEAST * (bottom - top)))
        if depth == 16 and mode not in SIXTEEN_BIT_MODES:
            values: NDArray[Any] = _sixteen_bit_colour(data, image, config)
            shown = _on_black(image)
        else:
            ImageOps.exif_transpose(image, in_place=True)  # no copy if there is nothing to turn
            shown = _on_black(image)
            values = _grey(shown, config)
        colours = None if mode in GREY_MODES else average_colours(shown)
    return GreyImage(values, width, height, depth, mode, container, colours)


def _without_end_marker(data: bytes, config: DecodingConfig) -> GreyImage | None:
    """Return the image of a JPEG that lacks only its end marker, `None` if pixels are missing."""
    # whole, because a reduced image leaves out the fine structure of its last pixels
    closed = with_end_marker(data, lambda whole: _decode(whole, "JPEG", config, reduced=False).values)
    try:
        return _decode(closed, "JPEG", config) if closed else None
    except Exception:  # as in `decode_raster`
        return None


def _sixteen_bit_colour(data: bytes, image: Image.Image, config: DecodingConfig) -> NDArray[np.float32]:
    image.load()  # raises for a damaged file, of which OpenCV returns a part
    decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    values: NDArray[Any] = decoded
    grey = values[..., 2::-1] @ LUMA
    if values.shape[2] == 4:
        grey *= values[..., 3] / np.float32(65535)
    picture = Image.fromarray(grey)
    picture.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    ImageOps.exif_transpose(picture, in_place=True)
    return percentile_window(np.asarray(picture), config)


def _grey(image: Image.Image, config: DecodingConfig) -> NDArray[np.uint8] | NDArray[np.float32]:
    if image.mode in SIXTEEN_BIT_MODES:
        values = np.asarray(image)
        transparent = image.info.get("transparency")
        return percentile_window(values if transparent is None else np.where(values == transparent, 0, values), config)
    return np.asarray(image.convert("L"))


def _on_black(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data or image.mode in SIXTEEN_BIT_MODES:  # these lose their bits; see `_grey`
        return image
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")  # as composited, in a fifth of the time
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
