"""Heatmaps of the champion, computed as in the report from the weights of the bundle, and the pictures of an answer.

The network is built in code and its weights are compared with their hash: no model file is unpickled.
"""

import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import BundleError, first_line
from cxr_platform.registry.bundle import WEIGHTS, Bundle, read_member

SIDE = 400
"""Side of the pictures in pixels: a heatmap of 24 or 50 cells is smooth at this size."""

COLOUR = (255, 150, 0)
"""Orange, which people with red-green colour blindness see on grey."""

MAX_OPACITY = 200
"""Opacity at the maximum of a heatmap, of 255."""


class HeatmapNetwork:
    """The Keras network of a bundle.

    Raise `BundleError` if the weights are changed or of another network, `NotPossible` for a strategy without heatmaps.
    """

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        from cxr_platform.explain.saliency import check_has_heatmaps
        from cxr_platform.models.mobilenet import build_network

        strategy = strategy_by_name(bundle.strategy)
        check_has_heatmaps(strategy)
        self._network = build_network(strategy, bundle.model)
        content = read_member(folder, bundle, WEIGHTS)
        try:
            with tempfile.TemporaryDirectory() as private, warnings.catch_warnings():
                verified = Path(private) / WEIGHTS  # Keras reads paths; this one holds the bytes that were compared
                verified.write_bytes(content)
                warnings.simplefilter("error", UserWarning)  # Keras only warns about weights that do not fit
                self._network.full.load_weights(verified)
        except (OSError, ValueError, UserWarning) as error:
            raise BundleError(
                f"Expected {WEIGHTS} of {bundle.version} to hold the weights of its {bundle.strategy} network.",
                received=first_line(error),
                advice="Build the bundle again.",
            ) from error

    def heatmap(self, image: NDArray[np.uint8], target: int) -> NDArray[np.float32]:
        """Return the map (h, h), 0 to 1, of the regions of `image` (S, S) that speak for the class index `target`."""
        from cxr_platform.explain.saliency import heatmaps

        heatmap: NDArray[np.float32] = heatmaps(self._network, image[np.newaxis], np.array([target]))[0]
        return heatmap


def overlay_png(heatmap: NDArray[np.float32]) -> bytes:
    """Return a map (h, h), 0 to 1, as a PNG to lay over the image: orange, more opaque where the map is higher."""
    alpha = Image.fromarray(heatmap.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    layer = Image.new("RGBA", (SIDE, SIDE), (*COLOUR, 0))
    layer.putalpha(Image.fromarray(np.rint(np.clip(np.asarray(alpha), 0, 1) * MAX_OPACITY).astype(np.uint8)))
    return _png(layer)


def grey_png(letterboxed: NDArray[np.uint8]) -> bytes:
    """Return a letterboxed image (L, L) as a grey PNG of the size of an overlay."""
    return _png(Image.fromarray(letterboxed).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
