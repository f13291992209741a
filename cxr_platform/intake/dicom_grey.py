"""Grey values of a DICOM object: what its header says that the stored values (`dicom_pixels`) look like.

DICOM PS3.3 C.11.1 (modality), C.11.2 (VOI) and C.7.6.3 (photometric interpretation): the VOI LUT of the object if it
has one, else its first window, or a further one if that does not fit the values. Without either, 8-bit values are taken
as they are, like those of a PNG, and deeper ones, also those of colours, get the percentile window of the profile. A
transform whose values are empty, no numbers or senseless counts as absent. MONOCHROME1 is inverted last. Padding around
the image does not count for the percentiles and becomes black.
"""

import struct
from collections.abc import Callable, Iterator
from copy import copy
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing

from cxr_platform.config import DecodingConfig, QualityConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom_pixels import Floats, stored_values
from cxr_platform.intake.grey_image import LUMA, average_colours, percentile_window, scale
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.quality import QualityMeasures, measure

MAX_WINDOWS = 8
"""Windows that are tried, each on the whole image: objects have one to four, and the first nearly always fits."""
LARGEST_NUMBER = 1e9
"""Rescale and window values beyond are senseless: stored values have at most 32 bits."""
STEPS_PER_VALUE = 4
"""Steps of a float64 by which rescaled values of neighbouring stored values must differ, else all become the same."""
LIMITS = QualityConfig()
"""Those of the class, not of the profile: decoded images are kept for all profiles with the same decoding."""
LEAST_CONTRAST, LEAST_STD = 1.25 * LIMITS.min_contrast, 1.25 * LIMITS.min_std
MOST_FLAT = LIMITS.max_flat_fraction - 0.03
"""A window fits its values if the picture keeps the limits of quality with a margin."""
LEAST_BETWEEN = 0.2
"""Least share of values that are neither black nor white: noise between the two has contrast as well."""
DARKEST, BRIGHTEST = 0.15, 0.85
"""Mean grey, from 0 to 1, of a picture with a window that fits."""
MORE_FLAT, OTHER_MEAN = 0.05, 0.1
"""Differences to the picture without a window that are allowed beyond `MOST_FLAT`, `DARKEST` and `BRIGHTEST`."""


def read_grey(dataset: Dataset, config: DecodingConfig) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the grey values (rows, columns) from 0 to 255, air dark, of an object whose header was checked.

    The second value are its `average_colours`, `None` for an image in grey.

    Raises `ImageRefused` (undecodable) for pixel data that cannot be read, and anything that pydicom raises for a value
    of the header that it cannot convert.
    """
    values = stored_values(dataset)
    return to_grey(values, dataset, config), _colours(values, dataset)


def _colours(values: Floats, dataset: Dataset) -> NDArray[np.float32] | None:
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colours = _looked_up(values, dataset)
        levels: NDArray[Any] = colours[..., :3] * (255 / np.iinfo(colours.dtype).max)
    elif values.ndim == 3:
        levels = values * (255 / _white(values, dataset))
    else:
        return None
    return average_colours(Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)))


def to_grey(values: Floats, dataset: Dataset, config: DecodingConfig) -> NDArray[np.float32]:
    """Return stored values, (rows, columns) or (rows, columns, 3) RGB, as grey values from 0 to 255, air dark."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colours = _looked_up(values, dataset)
        return scale(colours[..., :3] @ LUMA, 0, float(np.iinfo(colours.dtype).max))
    if values.ndim == 3:
        luma = values @ LUMA
        return scale(luma, 0, _white(values, dataset)) if dataset.BitsStored <= 8 else percentile_window(luma, config)
    padding = _padding(values, dataset)
    transforms = _transforms(dataset)
    grey = _display(_apply_modality(values, transforms), transforms, config, ~padding)
    grey = 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey
    grey[padding] = 0
    return grey


def _looked_up(values: Floats, dataset: Dataset) -> NDArray[Any]:
    if "RedPaletteColorLookupTableData" not in dataset:
        # The segments of a palette can repeat each other, so that a few hundred bytes are billions of entries.
        raise ImageRefused("undecodable", "DICOM: no palette, or one in segments, which are not read; save it as RGB")
    looked_up: NDArray[Any] = apply_color_lut(values.astype(np.uint16), dataset)
    return looked_up


def _white(values: Floats, dataset: Dataset) -> float:
    """Return the colour value of white: the largest of 8 bits, and of more bits, which are seldom all used, of these
    values, a few highlights aside."""
    largest = 2.0**dataset.BitsStored - 1
    return largest if dataset.BitsStored <= 8 else float(np.percentile(values.max(axis=2), 99.5)) or largest


def _padding(values: Floats, dataset: Dataset) -> NDArray[np.bool_]:
    """Return which values are Pixel Padding Value, or between it and Pixel Padding Range Limit (C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    limit = dataset.get("PixelPaddingRangeLimit", value)
    if not isinstance(value, int) or not isinstance(limit, int):
        return np.zeros(values.shape, bool)
    low, high = sorted([value, limit])
    padding = (values >= low) & (values <= high)
    return np.zeros(values.shape, bool) if padding.all() else padding


class LookupTable(NamedTuple):
    """A LUT of DICOM: `entries` for the values from `first` on; values outside get the first or last entry."""

    first: int
    entries: Floats

    def apply(self, values: Floats) -> Floats:
        """Return the entry of each value, which is rounded to a whole number."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.intp)
        looked_up: Floats = self.entries[index]
        return looked_up


class Transforms(NamedTuple):
    """What the header says of the meaning of stored values; what is empty or senseless there is absent here.

    `numbers` holds Rescale Slope and Intercept, VOI LUT Function and the bits of a value. `windows` are pairs of Window
    Center and Width, the first `MAX_WINDOWS`.
    """

    modality: LookupTable | None
    voi: LookupTable | None
    numbers: Dataset
    windows: list[tuple[float, float]]


def _transforms(dataset: Dataset) -> Transforms:
    numbers = Dataset()
    for keyword in ("BitsStored", "PixelRepresentation", "PhotometricInterpretation"):
        setattr(numbers, keyword, dataset[keyword].value)
    slope, intercept = (next(iter(_numbers(dataset, f"Rescale{name}")), None) for name in ("Slope", "Intercept"))
    if slope != 0 and (slope is not None or intercept is not None):
        slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
        largest = abs(slope) * 2.0**numbers.BitsStored + abs(intercept)
        if abs(slope) > STEPS_PER_VALUE * np.spacing(largest):
            numbers.RescaleSlope, numbers.RescaleIntercept = slope, intercept
    centers, widths = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    pairs = zip(centers, widths, strict=False)
    windows = [(center, width) for center, width in pairs if center is not None and width is not None and width > 0]
    function = str(dataset.get("VOILUTFunction") or "").strip().upper()
    numbers.VOILUTFunction = function if function in ("SIGMOID", "LINEAR_EXACT") else "LINEAR"
    modality, voi = _table(dataset, "ModalityLUTSequence"), _table(dataset, "VOILUTSequence")
    return Transforms(modality, voi, numbers, windows[:MAX_WINDOWS])


def _numbers(dataset: Dataset, keyword: str) -> list[float | None]:
    """Return the values of a decimal string, `None` for one that is empty, no number or not finite."""
    try:
        values = dataset.get(keyword)
    except (TypeError, ValueError, LookupError, ArithmeticError):
        return []
    return [_number(value) for value in (values if isinstance(values, MultiValue | list) else [values])]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if np.isfinite(number) and abs(number) < LARGEST_NUMBER else None


def _table(dataset: Dataset, keyword: str) -> LookupTable | None:
    """Return the table in the first item of a sequence; `None` if there is none or it contradicts its descriptor."""
    try:
        item = dataset.get(keyword)[0]
        length, first, bits = (int(number) for number in item.LUTDescriptor)
        length = length or 2**16
        first -= 2**16 if dataset.PixelRepresentation == 1 and first >= 2**15 else 0
        data = item.LUTData
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        if not isinstance(data, bytes):
            data = np.atleast_1d(data).astype(f"{order}u2").tobytes()
        entries = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
        if bits <= 8 and len(entries) < length:  # two entries in a word
            entries = np.frombuffer(data, np.uint8)
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, NotImplementedError, struct.error):
        return None
    entries = entries[:length].astype(np.float64)
    return LookupTable(first, entries) if len(entries) == length and np.ptp(entries) > 0 else None


def _apply_modality(values: Floats, transforms: Transforms) -> Floats:
    """Return the values after the Modality LUT, or after Rescale Slope and Intercept."""
    if transforms.modality:
        return transforms.modality.apply(values)
    rescaled: Floats = apply_modality_lut(values, transforms.numbers)
    return rescaled


def _display(
    values: Floats, transforms: Transforms, config: DecodingConfig, inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return grey values by the VOI LUT, the first window that fits, or without both.

    A VOI LUT or a window that leaves no usable picture belongs to other values, and is left out.
    """
    without = cache(partial(_without_window, values, transforms, config, inside))
    for picture in _windowed(values, transforms):
        between = ((picture > 0) & (picture < 255))[inside].mean()
        if between >= LEAST_BETWEEN and _fits(picture, without, config, inside):
            return picture
    return without()


def _windowed(values: Floats, transforms: Transforms) -> Iterator[NDArray[np.float32]]:
    """Yield the pictures by the VOI LUT and by each window."""
    if transforms.voi:
        entries = transforms.voi.entries
        yield scale(transforms.voi.apply(values), float(entries.min()), float(entries.max()))
    for center, width in transforms.windows:
        numbers = copy(transforms.numbers)
        numbers.WindowCenter, numbers.WindowWidth = center, width
        try:
            black, white = apply_windowing(np.array([-np.inf, np.inf]), numbers)
            yield np.nan_to_num(scale(apply_windowing(values, numbers), black, white), copy=False)
        except ValueError:  # a linear window needs a width of at least 1
            continue


def _without_window(
    values: Floats, transforms: Transforms, config: DecodingConfig, inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return grey values by the stored range of 8 bits, or by the percentile window."""
    numbers = transforms.numbers
    if numbers.BitsStored <= 8 and not transforms.modality:
        count = 2.0**numbers.BitsStored
        least = -count / 2 if numbers.PixelRepresentation == 1 else 0.0
        black, white = sorted(_apply_modality(np.array([least, least + count - 1]), transforms))
        return scale(values, black, white)
    return percentile_window(values, config, inside)


def _fits(
    picture: NDArray[np.float32],
    without: Callable[[], NDArray[np.float32]],
    config: DecodingConfig,
    inside: NDArray[np.bool_],
) -> bool:
    """Return True if a windowed picture keeps the limits of quality.

    It may have many uniform areas, or be dark or bright, if the picture without a window is so too: those are borders.
    """

    def measured(grey: NDArray[np.float32]) -> tuple[QualityMeasures, float]:
        content = letterbox(np.where(inside, grey, np.float32(0)), config.image_size).content
        return measure(content, picture.shape[1], picture.shape[0]), float(content.mean() / 255)

    measures, mean = measured(picture)
    if measures.contrast < LEAST_CONTRAST or measures.std < LEAST_STD:
        return False
    if measures.flat_fraction <= MOST_FLAT and DARKEST <= mean <= BRIGHTEST:
        return True
    usual, usual_mean = measured(without())
    return measures.flat_fraction <= usual.flat_fraction + MORE_FLAT and abs(mean - usual_mean) <= OTHER_MEAN
