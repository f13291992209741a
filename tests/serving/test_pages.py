"""/docs, the samples, and what the files of the page may contain under its content security policy."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from cxr_platform.config import IntakeConfig
from cxr_platform.intake.images import read_image
from cxr_platform.intake.quality import judge
from cxr_platform.labels import CLASSES
from cxr_platform.serving.pages import PAGE, SAMPLES, docs_page, docs_policy, draw_sample, samples_router
from pipelines.serve import DIRECT_BYTES
from tests.conftest import REPOSITORY
from tests.serving.asgi_client import ask


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "<b>bold</b>"}, {"name": "another"}]})
    name: str


def example_page() -> str:
    app = FastAPI(title="A title", version="1", description="One paragraph.\n\nAnother.")

    @app.get("/v1/thing", response_model=Answer, responses={404: {"description": "There is no thing."}})
    def thing() -> None:
        """Gives a thing."""

    return docs_page(app.openapi())


def test_docs_list_each_route_with_its_problems_and_examples() -> None:
    text = example_page()
    for expected in ("A title", "Another.", "GET /v1/thing", "Gives a thing.", "There is no thing.", "Example 2"):
        assert expected in text


def test_examples_in_docs_are_escaped() -> None:
    assert "<b>" not in example_page()
    assert "&lt;b&gt;bold" in example_page()


def test_the_policy_of_docs_allows_its_own_style_only() -> None:
    style = example_page().partition("<style>")[2].partition("</style>")[0]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in docs_policy()
    assert docs_policy().startswith("default-src 'none';")
    assert "unsafe" not in docs_policy()


def test_docs_are_well_formed_html() -> None:
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
    parser.feed(example_page())
    assert parser.opened == []


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.include_router(samples_router())
    return app


def test_the_samples_are_listed_and_served(app: FastAPI) -> None:
    listed = ask(app, "GET", "/samples").json()["samples"]
    assert [sample["name"] for sample in listed] == list(SAMPLES)
    for sample in listed:
        answer = ask(app, "GET", f"/samples/{sample['file']}")
        assert answer.headers["content-type"] == "image/png"
        assert answer.content == draw_sample(sample["name"])


@pytest.mark.parametrize("path", ["/samples/other.png", "/samples/normal", "/samples/..%2Fsamples.py.png"])
def test_an_unknown_sample_is_not_found(app: FastAPI, path: str) -> None:
    assert ask(app, "GET", path).status_code == 404


def test_the_page_has_no_inline_script_or_style_and_loads_only_its_own_files() -> None:
    index = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", index)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert {address for address in loaded if not address.startswith("page/")} == {"docs"}
    assert all((PAGE / address.removeprefix("page/")).is_file() for address in loaded if address.startswith("page/"))
    for file in PAGE.iterdir():
        elsewhere = re.findall(r"https?://[^\s\"']+", file.read_text(encoding="utf-8"))
        assert set(elsewhere) <= {"http://www.w3.org/2000/svg"}, file.name


def test_scripts_import_only_their_own_modules_and_never_parse_markup() -> None:
    scripts = {file.name: file.read_text(encoding="utf-8") for file in PAGE.glob("*.js")}
    imported = {name for text in scripts.values() for name in re.findall(r'from "([^"]+)"', text)}
    assert imported == {f"./{name}" for name in scripts} - {"./app.js"}
    for name, text in scripts.items():
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|Storage|cookie", text), name


@pytest.mark.parametrize("name", SAMPLES)
def test_each_sample_is_an_image_with_the_listed_flaw_only(name: str) -> None:
    config = IntakeConfig()
    image = read_image(draw_sample(name), config)
    refusal = judge(image.quality, config.quality)
    assert image.container == "PNG"
    assert SAMPLES[name].label in CLASSES
    assert (refusal.reason if refusal else None) == SAMPLES[name].flaw


def test_a_sample_is_small_and_always_the_same() -> None:
    first = draw_sample("normal")
    draw_sample.cache_clear()
    assert draw_sample("normal") == first
    assert max(len(draw_sample(name)) for name in SAMPLES) < 100_000


def test_an_unknown_sample_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        draw_sample("../secret")


def test_page_security_and_operations_agree_on_where_an_image_may_be_stored() -> None:
    """A large body may be on a disk: where studies run on the same Ray, and where /dev/shm is small."""
    security = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    (patients,) = (line for line in security.splitlines() if line.startswith("| patients |"))
    operations = (REPOSITORY / "infra" / "serve" / "README.md").read_text(encoding="utf-8")
    page = " ".join((PAGE / "index.html").read_text(encoding="utf-8").replace("&nbsp;", " ").split())
    assert f"those above {DIRECT_BYTES // 2**20} MB may be on its disk" in page
    for text in (patients, operations):
        assert f"two exceptions, both of bodies above {DIRECT_BYTES // 2**20} MB" in text
        for reason in ("studies", "`/dev/shm`", "`/tmp`"):
            assert reason in text
