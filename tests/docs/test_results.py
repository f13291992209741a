"""The page of results and the README have what `cxr results` writes from the published studies."""

from cxr_platform.evaluation.results_page import read_published, results_page, with_key_figures
from pipelines.results import further_pages
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
STUDIES = [read_published(file) for file in sorted((DOCS / "results").glob("*.json"))]


def test_the_page_is_written_from_the_published_studies() -> None:
    assert (DOCS / "results.md").read_text(encoding="utf-8") == results_page(STUDIES, further_pages(DOCS))


def test_the_readme_has_the_key_figures() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert with_key_figures(text, STUDIES) == text
