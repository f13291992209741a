from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxr_platform.labels import CLASSES
from pipelines.benchmarks.plain_server import plain_app
from tests.serving.asgi_client import ask, post
from tests.serving.builders import image_png, registry_with_champion


def test_an_image_is_answered_with_label_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def predict(images: np.ndarray, verbose: int) -> np.ndarray:
        seen.append(images)
        return np.eye(len(CLASSES))[[2]]

    network = SimpleNamespace(full=SimpleNamespace(predict=predict))
    monkeypatch.setattr("cxr_platform.champion.export.champion_network", lambda *_: network)
    folder, bundle = registry_with_champion(tmp_path / "registry").open()
    app = plain_app(folder)

    assert ask(app, "GET", "/readyz").status_code == 200
    assert post(app, image_png()).json() == {"label": CLASSES[2], "model": {"version": "v1"}}
    size = bundle.preprocessing.input_size
    assert seen[0].shape == (1, size, size, 3)
    assert -1 <= seen[0].min() < seen[0].max() <= 1
