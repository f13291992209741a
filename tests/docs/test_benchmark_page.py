"""The published pages of benchmarks have what `cxr benchmark page` writes from the published results."""

import json

import pytest

from pipelines.benchmarks import NOTES
from pipelines.benchmarks.gpu_study_results import gpu_study_page
from pipelines.benchmarks.page import page
from tests.conftest import REPOSITORY

RESULTS = REPOSITORY / "docs" / "results"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("2026-11-27-benchmarks", "2026-11-27-benchmark-*.json"),
        ("2026-11-28-server", "2026-11-28-server*.json"),
        ("2026-11-27-archive", "2026-11-27-archive*.json"),
        ("2026-11-27-cluster", "2026-11-27-cluster*.json"),
        ("2026-11-28-streaming", "2026-11-28-streaming*.json"),
        ("2026-11-28-trials", "2026-11-28-trials*.json"),
        ("2026-11-28-cluster", "2026-11-28-cluster*.json"),
        ("2026-11-28-jax", "2026-11-28-jax*.json"),
        ("2026-11-28-overhead", "2026-11-28-overhead*.json"),
        ("2026-11-28-step", "2026-11-28-step*.json"),
        ("2026-11-28-epyc-step", "2026-11-28-epyc-step*.json"),
        ("2026-11-28-adam-step", "2026-11-28-adam-step.json"),
        ("2026-11-28-simulations", "2026-11-28-simulations*.json"),
        ("2026-11-28-growth", "2026-11-28-growth*.json"),
        ("2026-11-28-decoding", "2026-11-28-decoding*.json"),
        ("2026-11-28-head", "2026-11-28-head*.json"),
        ("2026-11-28-recipe", "2026-11-28-recipe*.json"),
        ("2026-11-28-robust", "2026-11-28-robust.json"),
    ],
)
def test_a_page_is_written_from_the_published_results(name: str, pattern: str) -> None:
    files = sorted((RESULTS / "data").glob(pattern))
    written, _, _ = (RESULTS / f"{name}.md").read_text(encoding="utf-8").partition(f"\n{NOTES}\n")
    assert page({file: json.loads(file.read_bytes()) for file in files}) == written


def test_the_page_of_a_gpu_is_written_from_the_published_results() -> None:
    written, _, _ = (RESULTS / "2026-11-28-gpu.md").read_text(encoding="utf-8").partition(f"\n{NOTES}\n")
    assert gpu_study_page(json.loads((RESULTS / "data" / "2026-11-28-gpu-study.json").read_bytes())) == written
