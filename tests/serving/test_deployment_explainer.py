"""The Explainer on Ray Serve with a real network: DICOM, heatmaps, and a crash."""

import base64
import io
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from cxr_platform.config import ModelConfig
from cxr_platform.registry.store import Registry
from cxr_platform.serving.heatmap import SIDE
from cxr_platform.serving.screener import Screener
from tests.champion.builders import made_network
from tests.intake.files import dicom
from tests.serving.builders import SIZE, image, image_png, registry_with_champion
from tests.serving.serve_process import KEY, replicas, served

CONFIG = ModelConfig(input_size=SIZE, alpha=0.35, dense_units=8)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("explainer")
    weights = folder / "model.weights.h5"
    made_network(config=CONFIG).full.save_weights(weights)
    return registry_with_champion(folder / "registry", weights=weights.read_bytes(), model=CONFIG)


@pytest.fixture(scope="module")
def server(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    arguments = ["--min-replicas", "1", "--max-replicas", "1", "--metrics-port", "0"]
    with served(registry.root, tmp_path_factory.mktemp("server"), *arguments) as running:
        yield running


def screened(port: int, data: bytes, query: str = "") -> dict[str, Any]:
    address = f"http://127.0.0.1:{port}/v1/screen{query}"
    answer = httpx.post(address, files={"file": data}, headers={"x-api-key": KEY}, timeout=90)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def expected(registry: Registry, data: bytes) -> list[float]:
    screener = Screener(*registry.open("v1"), threads=1)
    (screening,) = screener.screen([screener.prepare(data)])
    return screening.probabilities.tolist()


def heat(answer: dict[str, Any]) -> np.ndarray:
    """Return the opacity of the heatmap."""
    picture = Image.open(io.BytesIO(base64.b64decode(answer["explanation"]["heatmap_png"])), formats=["PNG"])
    assert picture.size == (SIDE, SIDE)
    return np.asarray(picture.convert("RGBA"))[..., 3]


@pytest.mark.ray
def test_dicom_gets_the_answer_of_a_local_screener_and_a_heatmap(server: tuple[int, int], registry: Registry) -> None:
    port, _ = server
    answer = screened(port, dicom(image(3)), "?explain=true")
    assert list(answer["probabilities"].values()) == pytest.approx(expected(registry, dicom(image(3))), abs=1e-4)
    assert heat(answer).max() > 100


@pytest.mark.ray
def test_a_killed_explainer_is_replaced_and_no_image_is_lost(server: tuple[int, int], registry: Registry) -> None:
    port, pid = server
    (explainer,) = replicas(pid, "Explainer")
    os.kill(explainer, signal.SIGKILL)
    answer = screened(port, dicom(image(4)))
    assert list(answer["probabilities"].values()) == pytest.approx(expected(registry, dicom(image(4))), abs=1e-4)
    deadline = time.monotonic() + 60
    while screened(port, image_png(5), "?explain=true")["explanation"]["heatmap_png"] is None:
        assert time.monotonic() < deadline
    assert replicas(pid, "Explainer") != [explainer]
