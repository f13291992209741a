import json
from types import SimpleNamespace
from typing import Any

import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import Findings, LeakageFinding, WithinSources
from cxr_platform.evaluation.report import write_report
from cxr_platform.evaluation.report_contents import Section, compose, findings, section_modules
from cxr_platform.evaluation.report_inputs import ReportInputs, load_report_inputs
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.found import (
    CONTRADICTION,
    LUNGS_SEEN,
    TWO_SOURCES,
    comparison,
    contents,
    full_section,
    probe,
    section,
    table,
    told_source,
)
from tests.evaluation.stored import write_manifest


def test_tables_and_pictures_of_all_sections_are_counted_in(all_strategies):
    made = contents(all_strategies, [full_section("a"), full_section("b")])

    assert [t.name for t in made.all_tables[-4:]] == ["a-table", "a-folded", "b-table", "b-folded"]
    assert [p.name for p in made.all_pictures] == ["drawn-0", "drawn-1", "a-picture", "b-picture"]


def test_two_tables_of_one_name_are_refused(all_strategies):
    with pytest.raises(ValueError, match=r"one table a name, in small letters. Received: summary\."):
        contents(all_strategies, [section("a", folded=(table("summary"),))])


def test_two_sections_or_pictures_of_one_name_are_refused(all_strategies):
    with pytest.raises(ValueError, match="one section a name"):
        contents(all_strategies, [section("a"), section("a")])
    with pytest.raises(ValueError, match="one picture a name"):
        contents(
            all_strategies,
            [section("a", pictures=full_section("x").pictures), section("b", pictures=full_section("x").pictures)],
        )


@pytest.mark.parametrize("name", ["", "../up", "A", "a b"])
def test_a_name_that_is_no_file_name_is_refused(all_strategies, name):
    with pytest.raises(ValueError, match="one table a name"):
        contents(all_strategies, [section("a", tables=(table(name),))])


WINNER = SimpleNamespace(
    pooled={"accuracy_7_class": Interval(90.0), "sensitivity": Interval(80.0), "specificity": Interval(70.0)}
)


LEAKING = LeakageFinding("scratch", Interval(3.2, 1.1, 5.0, signed=True))


FOUND: dict[str, Any] = {
    "figures_of_merit": (WINNER, SimpleNamespace(pooled={})),
    "comparison": (comparison("off-the-shelf", 1.0, 0.5, 1.5, 0.01),),
    "sources": TWO_SOURCES,
    "shortcuts": ((probe(),), (told_source(90.0),)),
    "external": (CONTRADICTION,),
    "left_out": (),
    "leakage": SimpleNamespace(finding=LEAKING),
    "explanations": LUNGS_SEEN,
    "calibration": SimpleNamespace(finding=None),
    "subgroups": SimpleNamespace(within=WithinSources(35, Interval(40.0), Interval(98.5), falls=False)),
    "failures": object(),
    "atlas": None,
}


def fake(name: str, told: list[str]) -> Any:
    """A topic that finds what `FOUND` has and says what it was given."""

    def found(inputs: object) -> Any:
        told.append(f"find {name} in {inputs}")
        return FOUND[name]

    def said(inputs: object, found: object) -> Any:
        assert found is FOUND[name]
        return section(name)

    return SimpleNamespace(TITLE=f"Title of {name}", find=found, section=said)


def test_every_topic_finds_and_says_in_order():
    told: list[str] = []
    steps: list[tuple[str, int, int]] = []

    _, sections = compose("images", lambda *step: steps.append(step), {name: fake(name, told) for name in FOUND})

    assert told == [f"find {name} in images" for name in FOUND]
    assert [s.name for s in sections] == list(FOUND)
    assert steps[0] == ("Title of figures_of_merit", 0, 12)
    assert steps[-1] == ("All sections", 12, 12)


def test_findings_are_what_the_topics_found():
    found = findings(FOUND)

    assert isinstance(found, Findings)
    assert (found.accuracy.value, found.sensitivity.value, found.specificity.value) == (90.0, 80.0, 70.0)
    assert found.comparisons is FOUND["comparison"]
    assert found.association is TWO_SOURCES
    assert (found.probes, found.source_probes) == FOUND["shortcuts"]
    assert found.external == (CONTRADICTION,)
    assert found.within is FOUND["subgroups"].within
    assert found.lungs is LUNGS_SEEN
    assert found.leakage is LEAKING
    assert found.calibration is None


def test_one_protocol_alone_has_no_leakage():
    assert findings({**FOUND, "leakage": None}).leakage is None


def test_all_topics_are_there_in_the_order_of_the_report():
    assert list(section_modules()) == list(FOUND)


@pytest.mark.parametrize("name", list(FOUND))
def test_every_topic_has_a_title_and_both_functions(name):
    topic = section_modules()[name]

    assert topic.TITLE
    assert callable(topic.find)
    assert callable(topic.section)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ReportInputs:
    """Two strategies on synthetic images of several sources, with their manifest and without evidence."""
    folder = tmp_path_factory.mktemp("composed")
    frame = drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}, scale=0.05, folds=2)
    rows = frame.drop_duplicates("image_id").assign(role="study")
    return load_report_inputs(
        write_study(folder / "test", frame, synthetic=True), write_manifest(folder / "made", rows)
    )


@pytest.fixture(scope="module")
def composed(images: ReportInputs) -> tuple[Findings, list[Section]]:
    """What all topics make of it."""
    return compose(images)


def test_the_report_of_a_study_with_its_images_says_what_was_not_computed(images, composed, tmp_path):
    found, sections = composed
    page = write_report(tmp_path, images, sections, found)

    assert [s.name for s in sections if s.absent] == [
        "shortcuts", "external", "left_out", "leakage", "explanations", "atlas"
    ]  # fmt: skip
    assert found.accuracy.value == pytest.approx(images.results.best.pooled.accuracy_7_class)
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high
    assert [c.other for c in found.comparisons] == ["off-the-shelf"]
    assert found.association.single_source["Edema"] == "nih"
    assert len(list((page.parent / "figures").iterdir())) >= 8
    assert "Not known:" in page.read_text(encoding="utf-8")
    assert json.loads((page.parent / "results.json").read_text())["sections"]["calibration"]["values"]


def test_every_picture_is_described_and_every_table_marked(composed):
    _, sections = composed

    pictures = [picture for s in sections for picture in s.pictures]
    tables = [table for s in sections for table in (*s.tables, *s.folded)]
    assert all(p.alt.startswith("Synthetic images. ") and p.caption for p in pictures)
    assert [t.name for t in tables if not t.synthetic] == []
