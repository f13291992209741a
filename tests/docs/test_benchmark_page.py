"""The published page of benchmarks has what `cxr benchmark page` writes from the published results."""

import json

from pipelines.benchmarks.page import NOTES, page
from tests.conftest import REPOSITORY

RESULTS = REPOSITORY / "docs" / "results"


def test_the_page_is_written_from_the_published_results() -> None:
    files = sorted((RESULTS / "data").glob("2026-11-27-benchmark-*.json"))
    written, _, _ = (RESULTS / "2026-11-27-benchmarks.md").read_text(encoding="utf-8").partition(f"\n{NOTES}\n")
    assert page({file: json.loads(file.read_bytes()) for file in files}) == written
