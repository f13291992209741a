"""Every verb that a study and its model need, one after the other, on drawn images and with the installed stack.

`make test` runs the parts on TensorFlow; `make test-jax` runs this in the environment of the JAX stack.
"""

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest

from cxr_platform.labels import CLASSES
from pipelines import champion, cross_validate, evaluate, explain, manifest, registry, screen, study
from tests.pipelines.small_study import PROFILE, draw
from tests.serving.serve_process import KEY, post, served

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two strategies × two folds with its report, trained by Ray."""
    work = tmp_path_factory.mktemp("product")
    profile = work / "tiny.toml"
    # One trial at a time: JAX compiles a step for longer than it trains here, and one process compiles it once.
    profile.write_text(PROFILE.replace("cpu = 1.0", f"cpu = {min(2, os.cpu_count() or 1)}.0"))
    draw(work / "images", per_class=8)
    assert (
        manifest.main(["--data", str(work / "images"), "--out", str(work / "manifest"), "--profile", str(profile)]) == 0
    )
    named = [
        "--manifest",
        str(work / "manifest"),
        "--name",
        "t",
        "--runs",
        str(work / "runs"),
        "--profile",
        str(profile),
    ]
    assert cross_validate.main([*named, "--strategies", "off-the-shelf,scratch"]) == 0
    return work


@pytest.fixture(scope="module")
def models(work: Path) -> Path:
    """A registry whose champion is the study's scratch network, trained on all images."""
    named = ["--study", str(work / "runs" / "t"), "--manifest", str(work / "manifest")]
    assert champion.main([*named, "--registry", str(work / "registry")]) == 0
    assert registry.main(["promote", "v1", "--force", "--registry", str(work / "registry")]) == 0
    return work / "registry"


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    arguments = ["--min-replicas", "1", "--max-replicas", "1", "--metrics-port", "0"]
    with served(models, tmp_path_factory.mktemp("server"), *arguments) as (port, _):
        yield f"http://127.0.0.1:{port}"


def one_image(work: Path) -> Path:
    return min((work / "images").rglob("*.png"))


def trials(work: Path) -> list[dict[str, Any]]:
    files = (work / "runs" / "t" / "trials").rglob("trial.json")
    return [json.loads(file.read_text()) for file in files]


def test_the_backend_of_keras_is_the_installed_one_without_a_variable_of_the_user() -> None:
    assert keras.backend.backend() == ("tensorflow" if find_spec("tensorflow") else "jax")


def test_every_trial_was_trained_on_this_backend(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {(each["strategy"], each["fold"]) for each in trials(work)} == {
        (strategy, fold) for strategy in ("off-the-shelf", "scratch") for fold in range(2)
    }
    assert {each["backend"] for each in trials(work)} == {keras.backend.backend()}
    assert study.main(["status", "t", "--storage", str(work)]) == 0
    assert "4" in capsys.readouterr().out


def test_the_report_has_heatmaps_of_these_networks(work: Path) -> None:
    page = (work / "runs" / "t" / "report" / "index.html").read_text(encoding="utf-8")
    assert "off-the-shelf" in page.lower()
    assert page.count("data:image/png;base64") > 3


def test_one_image_is_explained(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--study", str(work / "runs" / "t"), "--manifest", str(work / "manifest"), "--strategy", "scratch"]
    assert explain.main([*named, "--image", str(one_image(work)), "--out", str(work / "explained.png")]) == 0
    assert "of the heatmap lies in the lungs" in capsys.readouterr().out
    assert (work / "explained.png").stat().st_size > 1000


def test_unseen_images_are_scored(work: Path, tmp_path: Path) -> None:
    draw(tmp_path / "unseen", per_class=1, seed=77)
    named = ["--study", str(work / "runs" / "t"), "--manifest", str(work / "manifest")]
    assert evaluate.main([*named, "--data", str(tmp_path / "unseen"), "--out", str(tmp_path / "answers")]) == 0


def test_the_exported_network_answers_as_the_trained_one(models: Path) -> None:
    bundle = json.loads((models / "v1" / "bundle.json").read_text())
    assert bundle["training"]["backend"] == keras.backend.backend()
    assert bundle["parity"]["max_abs_difference"] < 1e-5
    session = onnxruntime.InferenceSession(str(models / "v1" / "model.onnx"))
    logits, _ = session.run(["logits", "features"], {"images": np.zeros((2, 32, 32), "uint8")})
    assert logits.shape == (2, len(CLASSES))


def test_the_server_answers_with_a_heatmap_and_as_the_verb_screen(
    server: str, models: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, key = one_image(work), {"x-api-key": KEY}
    asked = {"files": {"file": file.read_bytes()}, "headers": key}
    answer = post(f"{server}/v1/screen?explain=true", **asked).json()
    assert screen.main([str(file), "--registry", str(models), "--json"]) == 0
    local = json.loads(capsys.readouterr().out)["result"]
    assert answer["probabilities"] == pytest.approx(local["probabilities"], abs=1e-4)
    assert answer["explanation"]["target"] in CLASSES
