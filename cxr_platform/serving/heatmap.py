"""Heatmaps of the champion, by the function of the report, from the weights of the bundle; TensorFlow's only user here.

The network is built in code and filled with weights whose hash was compared: no model file is ever unpickled.
"""

import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_platform.errors import BundleError
from cxr_platform.registry.bundle import WEIGHTS, Bundle, read_member

SIDE = 400
"""Pixels of the pictures, so that a heatmap of 24 or 50 cells is smooth on a screen."""

COLOUR = (255, 150, 0)
"""Orange: seen on grey by those who see no red or no green."""

OPACITY = 200
"""Of 255, where the heat is greatest."""


class HeatmapMaker:
    """The network of a bundle with its weights; `BundleError` where they are not its own."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        from cxr_platform.domain.strategies import strategy_by_name
        from cxr_platform.models.mobilenet import build_network

        self._network = build_network(strategy_by_name(bundle.strategy), bundle.model)
        content = read_member(folder, bundle, WEIGHTS)
        with tempfile.TemporaryDirectory() as private:
            checked = Path(private) / WEIGHTS  # Keras reads paths; this one holds the bytes that were compared
            checked.write_bytes(content)
            self._load(checked, bundle)

    def _load(self, weights: Path, bundle: Bundle) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # Keras leaves what does not fit as it is, and only warns
                self._network.full.load_weights(weights)
        except (OSError, ValueError, UserWarning) as error:
            raise BundleError(
                f"Expected {WEIGHTS} of {bundle.version} to hold the weights of its {bundle.strategy} network.",
                received=str(error).partition("\n")[0],
                advice="Make the bundle again.",
            ) from error

    def make(self, image: NDArray[np.uint8], target: int) -> NDArray[np.float32]:
        """The map (h, h), 0 to 1, of what in the image (S, S) speaks for the class at position `target`."""
        from cxr_platform.explain.saliency import heatmaps

        return heatmaps(self._network, image[np.newaxis], np.array([target]))[0]


def overlay(heat: NDArray[np.float32]) -> bytes:
    """A map (h, h), 0 to 1, as a PNG to lay over the image: orange, and the more opaque the greater the heat."""
    alpha = Image.fromarray(heat.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    layer = Image.new("RGBA", (SIDE, SIDE), (*COLOUR, 0))
    layer.putalpha(Image.fromarray(np.rint(np.clip(np.asarray(alpha), 0, 1) * OPACITY).astype(np.uint8)))
    return _png(layer)


def image_picture(letterboxed: NDArray[np.uint8]) -> bytes:
    """The letterboxed image (L, L) as a grey PNG of the size of an overlay."""
    return _png(Image.fromarray(letterboxed).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
