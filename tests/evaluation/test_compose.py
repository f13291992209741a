import json
from types import SimpleNamespace
from typing import Any

import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.compose import compose, findings, topics
from cxr_platform.evaluation.findings import Findings, LeakageFinding, WithinSources
from cxr_platform.evaluation.report import write_report
from cxr_platform.evaluation.report_inputs import Material, load_material
from cxr_platform.evaluation.section import Section
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.found import CONTRADICTION, LUNGS_SEEN, TWO_SOURCES, comparison, probe, section, told_source
from tests.evaluation.stored import write_manifest

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

    def found(material: object) -> Any:
        told.append(f"find {name} in {material}")
        return FOUND[name]

    def said(material: object, found: object) -> Any:
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
    assert list(topics()) == list(FOUND)


@pytest.mark.parametrize("name", list(FOUND))
def test_every_topic_has_a_title_and_both_functions(name):
    topic = topics()[name]

    assert topic.TITLE
    assert callable(topic.find)
    assert callable(topic.section)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Two strategies on synthetic images of several sources, with their manifest and without evidence."""
    folder = tmp_path_factory.mktemp("composed")
    frame = drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}, scale=0.05, folds=2)
    rows = frame.drop_duplicates("image_id").assign(role="study")
    return load_material(write_study(folder / "test", frame, synthetic=True), write_manifest(folder / "made", rows))


@pytest.fixture(scope="module")
def composed(images: Material) -> tuple[Findings, list[Section]]:
    """What all topics make of it."""
    return compose(images)


def test_the_report_of_a_study_with_its_images_says_what_was_not_computed(images, composed, tmp_path):
    found, sections = composed
    page = write_report(tmp_path, images, sections, found)

    assert [s.name for s in sections if s.absent] == [
        "shortcuts", "external", "left_out", "leakage", "explanations", "atlas"
    ]  # fmt: skip
    assert found.accuracy.value == pytest.approx(images.outcome.best.pooled.accuracy_7_class)
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
