"""From attenuation to a grey picture: scatter, quantum noise, the detector's blur and the processing."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cxr_platform.intake.phantoms.anatomy import Exposure
from cxr_platform.intake.phantoms.plane import Field, Plane

SOFT_TISSUE = 0.19  # linear attenuation per cm at about 70 keV effective (NIST XCOM, water)
BONE_EXCESS = 0.30  # what a cm of bone adds to that
SKIN_ATTENUATION = 0.35  # what little tissue makes a pixel part of the patient


def expose(attenuation: Field, plane: Plane, exposure: Exposure, rng: np.random.Generator) -> Field:
    """The processed picture, 0 (black, unattenuated) to 1 (white), of a map of attenuation (dimensionless, ≥ 0)."""
    through = np.exp(-attenuation)
    softened = _wide_blur(through * np.minimum(attenuation, 1), plane, 3.0)
    signal = (1 - exposure.scatter) * through + exposure.scatter * softened
    signal = ndimage.gaussian_filter(signal, exposure.blur_cm / plane.pitch)
    signal += np.sqrt(signal / exposure.photons) * rng.standard_normal(signal.shape, dtype=np.float32)
    signal = ndimage.gaussian_filter(signal, 0.4)
    measured = -np.log(np.clip(signal, 2e-3, 1))
    return _process(measured, attenuation > SKIN_ATTENUATION, plane, exposure)


def _process(measured: Field, patient: NDArray[np.bool_], plane: Plane, exposure: Exposure) -> Field:
    """Take out part of the large shadows, then the characteristic curve of X-ray image whose speed gives the brightness asked for."""
    flat = measured - exposure.equalising * _wide_blur(measured, plane, 4.0)
    sample = flat[::4, ::4]
    low, high = np.percentile(sample[patient[::4, ::4]], [1.0, 99.0])
    scaled = (flat - low) / max(high - low, 1e-3)
    scaled = np.maximum(scaled, -0.25)
    return _curve(scaled, exposure.slope, _speed(scaled[::4, ::4], exposure))


def _curve(scaled: Field, slope: float, speed: float) -> Field:
    """A sigmoid from 0 at the blackest of `scaled` (-0.25) towards 1."""
    toe = 1 / (1 + np.exp(slope * 1.6 * (0.25 + speed)))
    return (1 / (1 + np.exp(-slope * 1.6 * (scaled - speed))) - toe) / (1 - toe)


def _speed(sample: Field, exposure: Exposure) -> float:
    """The curve's middle at which the mean grey is `Exposure.brightness`, found by bisection."""
    low, high = -1.0, 2.0
    for _ in range(14):
        middle = (low + high) / 2
        if _curve(sample, exposure.slope, middle).mean() > exposure.brightness:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _wide_blur(picture: Field, plane: Plane, radius_cm: float) -> Field:
    """A Gaussian of several cm, made on a coarse copy because it has no detail."""
    coarse = max(1, int(radius_cm / plane.pitch / 3))
    size = (max(8, plane.width // coarse), max(8, plane.height // coarse))
    small = np.asarray(Image.fromarray(picture.astype(np.float32)).resize(size, Image.Resampling.BOX), np.float32)
    small = ndimage.gaussian_filter(small, radius_cm / plane.pitch / (plane.width / size[0]), mode="nearest")
    wide = Image.fromarray(small).resize((plane.width, plane.height), Image.Resampling.BICUBIC)
    return np.asarray(wide, np.float32)
