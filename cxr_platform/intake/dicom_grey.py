"""From the stored values of a DICOM image to grey: DICOM PS3.3 C.11.1 (modality), C.11.2 (VOI), C.7.6.3 (photometric).

The VOI LUT of the file is used where it has one, else its first window; without either, 8-bit values are taken as they
are, as those of a PNG, and deeper ones get the percentile window of the profile. MONOCHROME1 is inverted at the end.
Padding outside of the image is left out of the percentiles and becomes black.
"""

import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import DecodingConfig
from cxr_platform.intake.dicom_pixels import Floats
from cxr_platform.intake.grey import percentile_window, scale

if TYPE_CHECKING:
    from pydicom import Dataset

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, the weights of Pillow's "L"."""


def to_grey(values: Floats, dataset: "Dataset", config: DecodingConfig) -> NDArray[np.float32]:
    """Stored values, (rows, columns) or (rows, columns, 3) RGB, as grey (rows, columns) from 0 to 255, air dark."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return _palette(values, dataset)
    if values.ndim == 3:
        return scale(values @ LUMA, 0, 2.0**dataset.BitsStored - 1)
    padding = _padding(values, dataset)
    grey = _display(_modality(values, dataset), dataset, config, ~padding)
    grey = 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey
    grey[padding] = 0
    return grey


def _padding(values: Floats, dataset: "Dataset") -> NDArray[np.bool_]:
    """Which stored values are no image: Pixel Padding Value, or all to Pixel Padding Range Limit (C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    limit = dataset.get("PixelPaddingRangeLimit", value)
    if not isinstance(value, int) or not isinstance(limit, int):
        return np.zeros(values.shape, bool)
    low, high = sorted([value, limit])
    padding = (values >= low) & (values <= high)
    return np.zeros(values.shape, bool) if padding.all() else padding


def _palette(values: Floats, dataset: "Dataset") -> NDArray[np.float32]:
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(values.astype(np.uint16), dataset)
    return scale(colours[..., :3] @ LUMA, 0, float(np.iinfo(colours.dtype).max))


def _modality(values: Floats, dataset: "Dataset") -> Floats:
    from pydicom.pixels import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(values.astype(np.int32), dataset).astype(np.float64)
    rescaled = apply_modality_lut(values, dataset)
    if not np.isfinite(rescaled).all():
        raise ValueError("Rescale Slope and Intercept give no finite values")
    return rescaled


def _display(
    values: Floats, dataset: "Dataset", config: DecodingConfig, inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    for keyword, render in (("VOILUTSequence", _voi_lut), ("WindowWidth", _window)):
        if not dataset.get(keyword):
            continue
        try:
            grey = render(values, dataset)
        except (AttributeError, LookupError, TypeError, ValueError, NotImplementedError, struct.error):
            continue  # not as the standard has it: a width without a centre, a table shorter than its descriptor
        if np.isfinite(grey).all():
            return grey
    if dataset.BitsStored <= 8 and not dataset.get("ModalityLUTSequence"):
        black, white = sorted(_modality(_stored_range(dataset), dataset))
        return scale(values, black, white)
    return percentile_window(values, config, inside)


def _stored_range(dataset: "Dataset") -> Floats:
    """The least and the greatest stored value that the header allows."""
    values = 2.0**dataset.BitsStored
    least = -values / 2 if dataset.PixelRepresentation == 1 else 0.0
    return np.array([least, least + values - 1])


def _voi_lut(values: Floats, dataset: "Dataset") -> NDArray[np.float32]:
    from pydicom.pixels import apply_voi

    item = dataset.VOILUTSequence[0]
    entries, first = item.LUTDescriptor[0] or 2**16, item.LUTDescriptor[1]
    # pydicom indexes in the type of the table's entries, which wraps at 256 for 8-bit ones.
    item.LUTDescriptor = [item.LUTDescriptor[0], first, 16]
    table = apply_voi(np.arange(first, first + entries), dataset)
    index = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.intp)
    return scale(table[index], float(table.min()), float(table.max()))


def _window(values: Floats, dataset: "Dataset") -> NDArray[np.float32]:
    from pydicom.pixels import apply_windowing

    black, white = apply_windowing(np.array([-np.inf, np.inf]), dataset)
    return scale(apply_windowing(values, dataset), black, white)
