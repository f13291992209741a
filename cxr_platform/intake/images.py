"""From the bytes of a file to the image that a model sees: the one function that intake and serving share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import IntakeConfig
from cxr_platform.intake.decode import decode
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.quality import QualityMeasures, measure


@dataclass(frozen=True, eq=False)
class ChestImage:
    """A decoded and normalised image.

    `pixels` (size, size) uint8, letterboxed; `padding_fraction` is the share of it that is padding; `mean` and `std`
    are of the grey values 0..1 without the padding. `width` and `height` are those of the file, after an EXIF turn;
    `bit_depth`, `color_mode`, `view`, `patient`, `sex` and `age` as in `intake.grey.GreyImage`; `container` is PNG,
    JPEG or DICOM.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    bit_depth: int
    color_mode: str
    container: str
    padding_fraction: float
    mean: float
    std: float
    view: str | None
    patient: str | None
    sex: str | None
    age: float | None
    quality: QualityMeasures


def read_image(data: bytes, config: IntakeConfig) -> ChestImage:
    """Decode the bytes of a file and fit the image into `config.decoding.image_size` pixels (§2.1.4).

    Whether the image is good enough is not decided here: `quality.judge` does, where it is wanted. Raises
    `ImageRefused` and nothing else, whatever the bytes (the reasons are those of `intake.decode.decode`).
    """
    image = decode(data, config.decoding)
    height, width = image.values.shape
    boxed = letterbox(image.values, config.decoding.image_size)
    quality = measure(boxed.content, width, height)
    return ChestImage(
        pixels=boxed.pixels,
        width=width,
        height=height,
        bit_depth=image.bit_depth,
        color_mode=image.color_mode,
        container=image.container,
        padding_fraction=boxed.padding_fraction,
        mean=float(boxed.content.mean() / 255),
        std=quality.std,
        view=image.view,
        patient=image.patient,
        sex=image.sex,
        age=image.age,
        quality=quality,
    )
