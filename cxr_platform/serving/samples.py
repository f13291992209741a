"""Drawn images that the page offers to whoever has none at hand: phantoms of a seed that no collection is drawn with."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image

SEED = 20_040_338
PIXELS = 360  # of height
Spoiled = Literal["low-contrast", "partial"]


@dataclass(frozen=True)
class Sample:
    """A phantom with the signs of `label`, under `title`; `flaw` is what spoils it for screening."""

    label: str
    title: str
    flaw: Spoiled | None = None


SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        "covid19": Sample("Covid19", "Covid-19"),
        "pneumonia": Sample("Pneumonia", "Pneumonia"),
        "effusion": Sample("Effusion", "Effusion"),
        "normal": Sample("Normal", "Normal"),
        "low-contrast": Sample("Normal", "Low contrast", "low-contrast"),
        "partial": Sample("Edema", "Cut off", "partial"),
    }
)
"""What `draw_sample` can draw, by name, in the order in which the page offers them."""


@lru_cache(maxsize=len(SAMPLES))
def draw_sample(name: str) -> bytes:
    """The PNG of a sample, 8-bit grey, the same bytes each time; `KeyError` for a name that is not in `SAMPLES`."""
    from cxr_platform.intake.phantoms.flaws import draw_flaw
    from cxr_platform.intake.phantoms.image import ImageKey, draw_image
    from cxr_platform.intake.phantoms.plan import PlannedFlaw

    sample = SAMPLES[name]
    key = ImageKey(SEED, sample.label, list(SAMPLES).index(name), 0)
    if sample.flaw is not None:
        return draw_flaw(PlannedFlaw(sample.flaw, key, name, name), PIXELS)[0]
    levels = np.rint(255 * np.clip(draw_image(key, PIXELS).picture, 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()
