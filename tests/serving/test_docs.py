import base64
import hashlib
from html.parser import HTMLParser

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from cxr_platform.serving.docs import docs_page, docs_policy


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "<b>bold</b>"}, {"name": "another"}]})
    name: str


def page() -> str:
    app = FastAPI(title="A title", version="1", description="One paragraph.\n\nAnother.")

    @app.get("/v1/thing", response_model=Answer, responses={404: {"description": "There is no thing."}})
    def thing() -> None:
        """Gives a thing."""

    return docs_page(app.openapi())


def test_every_address_has_its_words_its_problems_and_its_examples() -> None:
    text = page()
    for expected in ("A title", "Another.", "GET /v1/thing", "Gives a thing.", "There is no thing.", "Example 2"):
        assert expected in text


def test_examples_are_text_and_no_markup() -> None:
    assert "<b>" not in page()
    assert "&lt;b&gt;bold" in page()


def test_the_policy_allows_the_pages_own_style_and_nothing_else() -> None:
    style = page().partition("<style>")[2].partition("</style>")[0]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in docs_policy()
    assert docs_policy().startswith("default-src 'none';")
    assert "unsafe" not in docs_policy()


def test_the_page_is_well_formed() -> None:
    class Balanced(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.opened: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            del attrs
            if tag not in ("meta", "link", "br"):
                self.opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.opened.pop() == tag

    parser = Balanced()
    parser.feed(page())
    assert parser.opened == []
