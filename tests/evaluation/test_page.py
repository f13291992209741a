from html.parser import HTMLParser

import pytest

from cxr_platform.evaluation.figures import accuracy_chart, confusion_picture
from cxr_platform.evaluation.page import render
from cxr_platform.evaluation.tables import report_tables
from tests.evaluation.builders import drawn_frame

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The elements of a page, and whether every one is closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(outcome) -> Page:
    pictures = [accuracy_chart(outcome), confusion_picture(outcome, outcome.best)]
    return Page(render(outcome, report_tables(outcome), pictures))


@pytest.fixture(scope="module")
def synthetic(all_strategies) -> Page:
    return page_of(all_strategies)


@pytest.fixture(scope="module")
def real(as_printed) -> Page:
    return page_of(as_printed)


def test_every_element_is_closed_in_its_place(synthetic):
    assert synthetic.open == []


def test_the_page_needs_nothing_beside_it(synthetic):
    addresses = [a[key] for _, a in synthetic.elements for key in ("src", "href", "data", "poster") if key in a]

    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not synthetic.all("script")
    assert not synthetic.all("link")


def test_the_styles_load_nothing(synthetic):
    styles = synthetic.text

    assert "url(" not in styles
    assert "@import" not in styles


def test_every_picture_is_described(synthetic):
    assert len(synthetic.all("img")) == 2
    assert all(len(image["alt"]) > 40 for image in synthetic.all("img"))


def test_every_table_has_a_caption_and_scoped_heads(synthetic):
    assert len(synthetic.all("caption")) == len(synthetic.all("table")) == 18
    assert all("scope" in head for head in synthetic.all("th"))


def test_anchors_are_unique(synthetic):
    ids = [a["id"] for _, a in synthetic.elements if "id" in a]

    assert len(ids) == len(set(ids))


def test_the_answer_comes_first_then_the_banner_then_tables(synthetic):
    text = synthetic.text[synthetic.text.index("Study “test”") :]
    places = [
        text.index(mark) for mark in ("First of 8", "What these figures do not show", "A program drew", "Table 1.")
    ]

    assert places == sorted(places)


def test_it_is_for_research_and_says_so(synthetic, real):
    assert synthetic.text.count("For research, not for diagnosis.") == 2
    assert real.text.count("For research, not for diagnosis.") == 2


def test_only_synthetic_studies_carry_the_mark(synthetic, real):
    assert synthetic.text.count("SYNTHETIC FILMS") >= 18 + 2 + 1
    assert "SYNTHETIC" not in real.text


def test_confounding_is_warned_of(real):
    assert "Class and source are confounded." in real.text


def test_configuration_versions_and_hardware_are_stated(real):
    for words in ("model.input_size", "2.16.2", "AMD EPYC, 2 cores", "b3f0c4de", "2026-11-20"):
        assert words in real.text


def test_names_from_outside_are_escaped(outcome):
    frame = drawn_frame({"scratch": 0.9})
    frame["source"] = "<script>alert(1)</script>"

    page = page_of(outcome(frame, name="<b>bold</b>"))

    assert not page.all("script")
    assert "<script>alert(1)</script>" in page.text
    assert "“<b>bold</b>”" in page.text
