"""The Explainer on Ray Serve with a real network, over HTTPS: DICOM, heatmaps, and a crash."""

import base64
import io
import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
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
from tests.serving.certificates import write_certificate
from tests.serving.serve_process import KEY, replicas, served
from tests.waiting import wait_until

CONFIG = ModelConfig(input_size=SIZE, alpha=0.35, dense_units=8)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("explainer")
    weights = folder / "model.weights.h5"
    made_network(config=CONFIG).full.save_weights(weights)
    return registry_with_champion(folder / "registry", weights=weights.read_bytes(), model=CONFIG)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(
    registry: Registry, certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, int]]:
    """A client and the process id."""
    arguments = ["--min-replicas", "1", "--max-replicas", "1", "--metrics-port", "0"]
    arguments += ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])]
    trusted = ssl.create_default_context(cafile=certificate[0])
    with (
        served(registry.root, tmp_path_factory.mktemp("server"), *arguments) as (port, pid),
        httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted, timeout=300) as client,
    ):
        yield client, pid


def screened(client: httpx.Client, data: bytes, query: str = "") -> dict[str, Any]:
    answer = client.post(f"/v1/screen{query}", files={"file": data}, headers={"x-api-key": KEY})
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
def test_dicom_gets_the_answer_of_a_local_screener_and_a_heatmap(
    server: tuple[httpx.Client, int], registry: Registry
) -> None:
    client, _ = server
    answer = screened(client, dicom(image(3)), "?explain=true")
    assert list(answer["probabilities"].values()) == pytest.approx(expected(registry, dicom(image(3))), abs=1e-4)
    assert heat(answer).max() > 100


@pytest.mark.ray
def test_a_killed_explainer_is_replaced_and_no_image_is_lost(
    server: tuple[httpx.Client, int], registry: Registry
) -> None:
    client, pid = server
    (explainer,) = replicas(pid, "Explainer")
    os.kill(explainer, signal.SIGKILL)
    assert client.get("/readyz").json()["version"] == "v1"
    answer = screened(client, dicom(image(4)))
    assert list(answer["probabilities"].values()) == pytest.approx(expected(registry, dicom(image(4))), abs=1e-4)
    wait_until(lambda: screened(client, image_png(5), "?explain=true")["explanation"]["heatmap_png"], 600)
    assert replicas(pid, "Explainer") != [explainer]
