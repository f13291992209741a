"""Of a real network: what is asked for is what the report's function answers for the same weights."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_platform.config import ModelConfig
from cxr_platform.errors import BundleError
from cxr_platform.registry.bundle import WEIGHTS, Bundle, read_bundle, write_bundle
from cxr_platform.serving.heatmap import COLOUR, OPACITY, SIDE, HeatmapMaker, image_picture, overlay
from tests.serving.builders import SIZE, filler, image

CONFIG = ModelConfig(input_size=SIZE, alpha=0.35, dense_units=8)


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture), formats=["PNG"])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.models.initial_weights import set_start
    from cxr_platform.models.mobilenet import build_network

    folder = tmp_path_factory.mktemp("bundle")
    network = build_network(strategy_by_name("scratch"), CONFIG)
    set_start(network, 7, None)
    network.full.save_weights(folder / WEIGHTS)
    made = filler(weights=(folder / WEIGHTS).read_bytes())(folder, "v1")
    return folder, write_bundle(folder, made)


def test_the_map_is_that_of_the_report_for_the_weights_of_the_bundle(bundle: tuple[Path, Bundle]) -> None:
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.explain.saliency import heatmaps
    from cxr_platform.models.initial_weights import set_start
    from cxr_platform.models.mobilenet import build_network

    values = np.asarray(Image.fromarray(image(1)).resize((SIZE, SIZE)))
    made = HeatmapMaker(*bundle).make(values, 3)
    network = build_network(strategy_by_name("scratch"), CONFIG)
    set_start(network, 7, None)
    expected = heatmaps(network, values[np.newaxis], np.array([3]))[0]
    assert made.shape == (SIZE // 4, SIZE // 4)
    assert np.allclose(made, expected, atol=1e-6)


def test_changed_weights_are_refused(bundle: tuple[Path, Bundle]) -> None:
    folder, described = bundle
    content = (folder / WEIGHTS).read_bytes()
    try:
        (folder / WEIGHTS).write_bytes(content[:-1] + b"x")
        with pytest.raises(BundleError, match=WEIGHTS):
            HeatmapMaker(folder, described)
    finally:
        (folder / WEIGHTS).write_bytes(content)
    assert read_bundle(folder) == described


def test_weights_of_another_network_are_refused(bundle: tuple[Path, Bundle]) -> None:
    folder, described = bundle
    for other in (replace(CONFIG, dense_units=9), replace(CONFIG, alpha=0.5)):
        with pytest.raises(BundleError, match="scratch network"):
            HeatmapMaker(folder, described.model_copy(update={"model": other}))


def test_an_overlay_is_opaque_where_the_heat_is() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[2, 5] = 1
    picture = opened(overlay(heat))
    assert (picture.mode, picture.size) == ("RGBA", (SIDE, SIDE))
    pixels = np.asarray(picture)
    y, x = np.unravel_index(pixels[..., 3].argmax(), (SIDE, SIDE))
    assert abs((y + 0.5) / SIDE - 2.5 / 8) < 0.03
    assert abs((x + 0.5) / SIDE - 5.5 / 8) < 0.03
    assert 0.95 * OPACITY < pixels[..., 3].max() <= OPACITY
    assert pixels[0, 0, 3] == 0
    assert tuple(pixels[y, x, :3]) == COLOUR


def test_without_heat_an_overlay_shows_nothing() -> None:
    assert np.asarray(opened(overlay(np.zeros((8, 8), np.float32))))[..., 3].max() == 0


def test_the_image_is_shown_as_the_network_gets_it() -> None:
    picture = opened(image_picture(image(2)))
    assert (picture.mode, picture.size) == ("L", (SIDE, SIDE))
    assert abs(np.asarray(picture).mean() - image(2).mean()) < 1
