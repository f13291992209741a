import csv
import io
import itertools
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxr_platform.errors import StorageError
from cxr_platform.evaluation import report
from cxr_platform.evaluation.finding_clauses import confounding_warning
from cxr_platform.evaluation.report import BUILT_IN, CHAPTERS, chapters, render_html, write_report
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import load_report_inputs
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.made_findings import CONTRADICTION, SINGLE, contents, findings, full_section, section

FRAME = drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}, folds=3)


SECTIONS = [full_section("sources"), section("atlas", absent="No weights.")]


TABLES = {
    "summary",
    "folds",
    "sources-table",
    "sources-folded",
    "confusion-off-the-shelf",
    "confusion-scratch",
    *(f"table-{n}" for n in range(1, 8)),
}


def write(folder: Path, progress=None, sections=SECTIONS) -> Path:
    return write_report(folder, load_report_inputs(folder), sections, findings(), progress)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("runs") / "test", FRAME)
    write(folder)
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A study with a report, to be changed by the test."""
    return Path(shutil.copytree(finished, tmp_path / "test"))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_report_holds_page_results_tables_and_figures(finished):
    place = finished / "report"

    assert {p.name for p in place.iterdir()} == {
        "index.html", "results.json", "STUDY_CARD.md", "tables", "figures"
    }  # fmt: skip
    assert {p.name for p in (place / "tables").iterdir()} == {f"{t}.{kind}" for t in TABLES for kind in ("csv", "md")}
    assert {p.name for p in (place / "figures").iterdir()} == {
        "accuracy.png", "confusion-off-the-shelf.png", "confusion-scratch.png", "sources-picture.png"
    }  # fmt: skip


def test_no_temporary_file_is_left(finished):
    assert {p.name for p in finished.iterdir()} == {"predictions.parquet", "study.json", "results.json", "report"}


def test_results_are_written_to_the_study_and_the_report(finished):
    assert (finished / "results.json").read_bytes() == (finished / "report" / "results.json").read_bytes()
    assert json.loads((finished / "results.json").read_text())["winner"]["winner"] == "scratch"


def test_the_csv_files_agree_with_the_results(finished):
    results = json.loads((finished / "results.json").read_text())["strategies"]["scratch"]
    rows = list(csv.DictReader(io.StringIO((finished / "report" / "tables" / "table-5.csv").read_text())))

    assert float(rows[0]["Accuracy 7-class (%)"]) == pytest.approx(results["mean"]["accuracy_7_class"], abs=1e-4)
    assert float(rows[0]["Accuracy 7-class (%), sd"]) == pytest.approx(results["sd"]["accuracy_7_class"], abs=1e-4)


def test_writing_again_gives_the_same_bytes(study, finished):
    (study / "report" / "tables" / "stale.csv").write_text("from an earlier version")

    write(study)

    assert everything(study / "report") == everything(finished / "report")


def test_progress_is_reported(study):
    steps: list[str] = []

    assert write(study, SimpleNamespace(message=steps.append)) == study / "report" / "index.html"
    assert steps == ["Drawing 3 pictures", "Writing the report"]


def test_sections_reach_the_page_the_results_and_the_card(finished):
    results = json.loads((finished / "results.json").read_text())

    assert results["sections"]["sources"]["values"]["rate"] == 3.0
    assert "No weights." in (finished / "report" / "index.html").read_text()
    assert (finished / "report" / "STUDY_CARD.md").read_text().startswith("# Study card: test\n")


def test_two_tables_of_one_name_leave_the_previous_report(study, finished):
    with pytest.raises(ValueError, match="unique table names"):
        write(study, sections=[full_section("sources"), section("b", tables=full_section("sources").tables)])

    assert everything(study / "report") == everything(finished / "report")


def test_an_interruption_while_writing_leaves_the_previous_report(study, finished, monkeypatch):
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "render_html", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(study)
    assert everything(study / "report") == everything(finished / "report")

    write(study)
    assert {p.name for p in study.iterdir()} == {p.name for p in finished.iterdir()}


def test_a_place_that_cannot_be_written_is_named(study):
    (study / "results.json").unlink(missing_ok=True)
    (study / "results.json").mkdir()

    with pytest.raises(StorageError, match=r"able to write .*results\.json\. Received: Is a directory"):
        write(study)


SECTIONS = [name for names in CHAPTERS.values() for name in names if name not in BUILT_IN]


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


@pytest.fixture(scope="module")
def synthetic(all_strategies) -> Page:
    """With every section, one of them absent and one that warns."""
    sections = [full_section(name) for name in SECTIONS if name not in ("atlas", "shortcuts")]
    sections += [
        section("atlas", lead=(), absent="No `weights` are stored."),
        section("shortcuts", warnings=("Beware.",)),
    ]
    return Page(render_html(contents(all_strategies, sections)))


@pytest.fixture(scope="module")
def real(as_printed) -> Page:
    made = findings(external=(CONTRADICTION,), association=SINGLE)
    return Page(render_html(contents(as_printed, with_findings=made)))


def test_every_element_is_closed_in_its_place(synthetic):
    assert synthetic.open == []


def test_the_page_is_self_contained(synthetic):
    addresses = [a[key] for _, a in synthetic.elements for key in ("src", "href", "data", "poster") if key in a]

    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert not synthetic.all("script")
    assert not synthetic.all("link")


def test_the_styles_load_nothing(synthetic):
    styles = synthetic.text

    assert "url(" not in styles
    assert "@import" not in styles


def test_every_picture_is_described(synthetic):
    assert len(synthetic.all("img")) == 2 + len(SECTIONS) - 2
    assert all(len(image["alt"]) > 20 for image in synthetic.all("img"))


def test_every_table_has_a_caption_and_scoped_heads(synthetic):
    assert len(synthetic.all("caption")) == len(synthetic.all("table")) == 17 + 2 * (len(SECTIONS) - 2)
    assert all("scope" in head for head in synthetic.all("th"))


def test_anchors_are_unique_and_every_link_has_one(synthetic):
    ids = [a["id"] for _, a in synthetic.elements if "id" in a]
    links = [a["href"] for a in synthetic.all("a")]

    assert len(ids) == len(set(ids))
    assert len(links) == len(SECTIONS) + len(BUILT_IN)
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert all(a["aria-labelledby"] in ids for _, a in synthetic.elements if "aria-labelledby" in a)


def test_the_mark_the_answer_the_limits_and_the_contents_come_before_everything_else(synthetic):
    text = synthetic.text[synthetic.text.index("Study “test”") :]
    marks = (
        *("First of 8", "drawn by a program", "What was compared", "Next steps", "What these results do not show"),
        *("Contents", "Comparison of strategies", "Sentence of intervals", "Sentence of sources"),
        *("Sentence of external", "Sentence of calibration", "Table 1.", "Set-up"),
    )
    places = [text.index(mark) if mark in marks[:6] else text.rindex(mark) for mark in marks]

    assert places == sorted(places)


def test_headings_go_down_one_level_at_a_time(synthetic):
    levels = [int(tag[1]) for tag, _ in synthetic.elements if tag in ("h1", "h2", "h3", "h4", "h5")]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_contradiction_is_in_the_summary_with_its_rates(real):
    top = real.text[: real.text.index("What these results do not show")]

    assert "14 of the 18 images of actualmed without Covid19 are called Covid19" in top
    assert "22.22\N{NO-BREAK SPACE}% (5.56 to 44.44)" in top
    assert "98.50\N{NO-BREAK SPACE}%" in top


def test_alarming_lines_are_marked(real, synthetic):
    assert [a for a in real.all("li") if a.get("class") == "alarm"]
    assert not [a for a in synthetic.all("li") if a.get("class") == "alarm"]


def test_a_section_without_figures_says_why_and_the_contents_say_so(synthetic):
    assert "No weights are stored." in synthetic.text
    assert synthetic.text.count("not computed") == 1


def test_warnings_are_in_their_section_and_flagged_in_the_contents(synthetic):
    assert "Warning. Beware." in synthetic.text
    assert [a for a in synthetic.all("span") if a.get("class") == "flag"] == [{"class": "flag"}]


def test_further_tables_are_folded(synthetic):
    assert len(synthetic.all("details")) == 4 + len(SECTIONS) - 2


def test_a_section_of_no_chapter_is_shown_all_the_same():
    shown = [part.name for chapter in chapters([Section("novel", "Novel")]) for part in chapter.parts]

    assert shown == ["strategies", "novel", "paper", "matrices", "set-up"]


def test_text_in_backticks_is_code(synthetic):
    assert synthetic.all("code")
    assert "`" not in synthetic.text


def test_it_is_for_research_and_says_so(synthetic, real):
    assert synthetic.text.count("For research, not for diagnosis.") == 2
    assert real.text.count("For research, not for diagnosis.") == 2


def test_only_synthetic_studies_carry_the_mark(synthetic, real):
    assert synthetic.text.count("SYNTHETIC IMAGES") >= 17 + 2 + 1
    assert "SYNTHETIC" not in real.text


def test_confounding_is_warned_of(real):
    assert "Class and source are confounded." in real.text


def test_configuration_versions_and_hardware_are_stated(real):
    for words in ("model.input_size", "2.16.2", "AMD EPYC", "b3f0c4de", "2026-11-20", "2.00 h of trials"):
        assert words in real.text


def test_names_from_outside_are_escaped(results):
    frame = drawn_frame({"scratch": 0.9})
    frame["source"] = "<script>alert(1)</script>"

    named = section("sources", title="<i>t</i>", lead=("`<u>`",), warnings=(confounding_warning(SINGLE),))
    page = Page(render_html(contents(results(frame, name="<b>bold</b>"), [named])))

    assert not page.all("script")
    assert not page.all("u")
    assert not page.all("i")
    assert "<u>" in page.text
    assert "“<b>bold</b>”" in page.text
