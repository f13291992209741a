"""A heatmap of a bundle equals that of the report for the same weights; pictures of an answer."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_platform.config import ModelConfig
from cxr_platform.errors import BundleError, NotPossible
from cxr_platform.registry.bundle import WEIGHTS, Bundle, read_bundle, write_bundle
from cxr_platform.serving.heatmap import COLOUR, MAX_OPACITY, SIDE, HeatmapNetwork, grey_png, overlay_png
from tests.serving.builders import SIZE, filler, image

CONFIG = ModelConfig(input_size=SIZE, alpha=0.35, dense_units=8)


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture), formats=["PNG"])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.models.initial_weights import set_initial_weights
    from cxr_platform.models.mobilenet import build_network

    folder = tmp_path_factory.mktemp("bundle")
    network = build_network(strategy_by_name("scratch"), CONFIG)
    set_initial_weights(network, 7, None)
    network.full.save_weights(folder / WEIGHTS)
    made = filler(weights=(folder / WEIGHTS).read_bytes())(folder, "v1")
    return folder, write_bundle(folder, made)


def test_a_heatmap_equals_that_of_the_report_for_the_same_weights(bundle: tuple[Path, Bundle]) -> None:
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.explain.saliency import heatmaps
    from cxr_platform.models.initial_weights import set_initial_weights
    from cxr_platform.models.mobilenet import build_network

    values = np.asarray(Image.fromarray(image(1)).resize((SIZE, SIZE)))
    made = HeatmapNetwork(*bundle).heatmap(values, 3)
    network = build_network(strategy_by_name("scratch"), CONFIG)
    set_initial_weights(network, 7, None)
    expected = heatmaps(network, values[np.newaxis], np.array([3]))[0]
    assert made.shape == (SIZE // 4, SIZE // 4)
    assert np.allclose(made, expected, atol=1e-6)


def test_a_model_of_views_has_no_heatmaps(tmp_path: Path) -> None:
    from cxr_platform.serving.deployment import _load_heatmap_network

    described = write_bundle(tmp_path, filler(views=("whole", "lungs"))(tmp_path, "v1"))
    with pytest.raises(NotPossible, match="robust, whose head adds up the scores of several views"):
        HeatmapNetwork(tmp_path, described)
    assert _load_heatmap_network(tmp_path, described) is None  # the Explainer waits for the next champion


def test_changed_weights_are_refused(bundle: tuple[Path, Bundle]) -> None:
    folder, described = bundle
    content = (folder / WEIGHTS).read_bytes()
    try:
        (folder / WEIGHTS).write_bytes(content[:-1] + b"x")
        with pytest.raises(BundleError, match=WEIGHTS):
            HeatmapNetwork(folder, described)
    finally:
        (folder / WEIGHTS).write_bytes(content)
    assert read_bundle(folder) == described


def test_weights_of_another_network_are_refused(bundle: tuple[Path, Bundle]) -> None:
    folder, described = bundle
    for other in (replace(CONFIG, dense_units=9), replace(CONFIG, alpha=0.5)):
        with pytest.raises(BundleError, match="scratch network"):
            HeatmapNetwork(folder, described.model_copy(update={"model": other}))


def test_an_overlay_is_opaque_where_the_heatmap_is_high() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[2, 5] = 1
    picture = opened(overlay_png(heat))
    assert (picture.mode, picture.size) == ("RGBA", (SIDE, SIDE))
    pixels = np.asarray(picture)
    y, x = np.unravel_index(pixels[..., 3].argmax(), (SIDE, SIDE))
    assert abs((y + 0.5) / SIDE - 2.5 / 8) < 0.03
    assert abs((x + 0.5) / SIDE - 5.5 / 8) < 0.03
    assert 0.95 * MAX_OPACITY < pixels[..., 3].max() <= MAX_OPACITY
    assert pixels[0, 0, 3] == 0
    assert tuple(pixels[y, x, :3]) == COLOUR


def test_an_empty_heatmap_gives_a_transparent_overlay() -> None:
    assert np.asarray(opened(overlay_png(np.zeros((8, 8), np.float32))))[..., 3].max() == 0


def test_the_grey_picture_shows_the_letterboxed_image() -> None:
    picture = opened(grey_png(image(2)))
    assert (picture.mode, picture.size) == ("L", (SIDE, SIDE))
    assert abs(np.asarray(picture).mean() - image(2).mean()) < 1
