"""The same maps on both backends. JAX runs in a process of its own: Keras chooses its backend once, at import."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cxr_platform.explain.saliency import heatmaps
from tests.explain.backend_probe import TARGETS, images, network

REPOSITORY = Path(__file__).resolve().parents[2]


def test_both_backends_draw_the_same_maps(tmp_path: Path) -> None:
    file = tmp_path / "maps.npy"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tests.explain.backend_probe", str(file)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    on_jax, on_tensorflow = np.load(file), heatmaps(network(), images(), TARGETS)
    assert on_tensorflow.std() > 0.05  # there is something to compare
    assert np.abs(on_jax - on_tensorflow).max() < 0.02
