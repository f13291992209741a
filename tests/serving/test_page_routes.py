"""The drawn images over HTTP, and what the page's files may hold under its content security policy."""

import re

import pytest
from fastapi import FastAPI

from cxr_platform.serving.app import PAGE
from cxr_platform.serving.page_routes import page_router
from cxr_platform.serving.samples import SAMPLES, draw_sample
from tests.serving.asking import ask


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.include_router(page_router())
    return app


def test_the_samples_are_listed_and_served(app: FastAPI) -> None:
    listed = ask(app, "GET", "/samples").json()["samples"]
    assert [sample["name"] for sample in listed] == list(SAMPLES)
    for sample in listed:
        answer = ask(app, "GET", f"/samples/{sample['file']}")
        assert answer.headers["content-type"] == "image/png"
        assert answer.content == draw_sample(sample["name"])


@pytest.mark.parametrize("path", ["/samples/other.png", "/samples/normal", "/samples/..%2Fsamples.py.png"])
def test_what_is_no_sample_is_not_found(app: FastAPI, path: str) -> None:
    assert ask(app, "GET", path).status_code == 404


def test_the_page_has_no_inline_script_or_style_and_loads_its_own_files_only() -> None:
    index = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", index)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert {address for address in loaded if not address.startswith("page/")} == {"docs"}
    assert all((PAGE / address.removeprefix("page/")).is_file() for address in loaded if address.startswith("page/"))
    for file in PAGE.iterdir():
        elsewhere = re.findall(r"https?://[^\s\"']+", file.read_text(encoding="utf-8"))
        assert set(elsewhere) <= {"http://www.w3.org/2000/svg"}, file.name


def test_every_module_is_imported_from_beside_it_and_markup_is_never_parsed() -> None:
    scripts = {file.name: file.read_text(encoding="utf-8") for file in PAGE.glob("*.js")}
    imported = {name for text in scripts.values() for name in re.findall(r'from "([^"]+)"', text)}
    assert imported == {f"./{name}" for name in scripts} - {"./app.js"}
    for name, text in scripts.items():
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|Storage|cookie", text), name
