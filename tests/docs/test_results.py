"""Published pages and the README have what the platform writes from the published files."""

import json

from cxr_platform.evaluation.results_page import read_published, results_page, with_key_figures
from cxr_platform.evidence.lung_scores import scores_page
from pipelines.results import further_pages
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
STUDIES = [read_published(file) for file in sorted((DOCS / "results").glob("*.json"))]


def test_the_page_is_written_from_the_published_studies() -> None:
    assert (DOCS / "results.md").read_text(encoding="utf-8") == results_page(STUDIES, further_pages(DOCS))


def test_the_readme_has_the_key_figures() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert with_key_figures(text, STUDIES) == text


def test_the_page_of_lung_masks_is_written_from_the_published_scores() -> None:
    files = [DOCS / "results" / "data" / f"2026-11-27-lungs-{name}.json" for name in ("openist", "cohen")]
    page = (DOCS / "results" / "2026-11-27-lungs.md").read_text(encoding="utf-8")
    notes = [part for part in page.split("\n\n") if part.startswith(("The network was changed", "Weights `with`"))]
    assert len(notes) == 2
    assert page == scores_page(files, notes)


def test_weights_with_a_collections_masks_are_scored_on_the_other_collection_only() -> None:
    for name in ("openist", "cohen"):
        file = DOCS / "results" / "data" / f"2026-11-27-lungs-{name}.json"
        scores = json.loads(file.read_text(encoding="utf-8"))["scores"]
        assert {len(score["trained_on"]) for score in scores} == {0, 1, 2}
        assert all(score["images"] not in score["trained_on"] for score in scores)
