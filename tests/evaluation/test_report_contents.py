import json
from types import SimpleNamespace
from typing import Any

import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import Findings, LeakageFinding, PickedAccuracy
from cxr_platform.evaluation.report import write_report
from cxr_platform.evaluation.report_contents import Section, compose, findings, section_modules
from cxr_platform.evaluation.report_inputs import ReportInputs, load_report_inputs
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.made_findings import (
    CONTRADICTION,
    LUNGS_SEEN,
    OUTSIDE,
    TWO_SOURCES,
    WITHIN,
    comparison,
    contents,
    full_section,
    probe,
    section,
    source_probe,
    table,
)
from tests.evaluation.stored import write_manifest
from tests.evaluation.test_credibility import LARGE_PAIR


def test_tables_and_pictures_of_all_sections_are_counted_in(all_strategies):
    made = contents(all_strategies, [full_section("a"), full_section("b")])

    assert [t.name for t in made.all_tables[-4:]] == ["a-table", "a-folded", "b-table", "b-folded"]
    assert [p.name for p in made.all_pictures] == ["drawn-0", "drawn-1", "a-picture", "b-picture"]


def test_two_tables_of_one_name_are_refused(all_strategies):
    with pytest.raises(ValueError, match=r"unique table names in lower case. Received: summary\."):
        contents(all_strategies, [section("a", folded=(table("summary"),))])


def test_two_sections_or_pictures_of_one_name_are_refused(all_strategies):
    with pytest.raises(ValueError, match="unique section names"):
        contents(all_strategies, [section("a"), section("a")])
    with pytest.raises(ValueError, match="unique picture names"):
        contents(
            all_strategies,
            [section("a", pictures=full_section("x").pictures), section("b", pictures=full_section("x").pictures)],
        )


@pytest.mark.parametrize("name", ["", "../up", "A", "a b"])
def test_a_name_that_is_no_file_name_is_refused(all_strategies, name):
    with pytest.raises(ValueError, match="unique table names"):
        contents(all_strategies, [section("a", tables=(table(name),))])


WINNER = SimpleNamespace(
    pooled={"accuracy_7_class": Interval(90.0), "sensitivity": Interval(80.0), "specificity": Interval(70.0)}
)


LEAKING = LeakageFinding("scratch", Interval(3.2, 1.1, 5.0, signed=True))


NUMBERS: dict[str, Any] = {
    "measures": (WINNER, SimpleNamespace(pooled={})),
    "strategy_comparison": SimpleNamespace(
        comparisons=(comparison("off-the-shelf", 1.0, 0.5, 1.5, 0.01),),
        picked=PickedAccuracy(Interval(90.0), optimism=0.5, strategies=2),
    ),
    "within_sources": SimpleNamespace(leading=WITHIN),
    "sources": TWO_SOURCES,
    "shortcuts": SimpleNamespace(probes=(probe(),), sources=(source_probe(90.0),)),
    "external": SimpleNamespace(rates=(CONTRADICTION,)),
    "strata": (),
    "outside": (OUTSIDE,),
    "left_out": (),
    "hospitals": SimpleNamespace(leading=()),
    "unseen_hospitals": SimpleNamespace(leading=(LARGE_PAIR,), finding=None),
    "leakage": SimpleNamespace(finding=LEAKING),
    "reader_labels": None,
    "explanations": LUNGS_SEEN,
    "calibration": SimpleNamespace(finding=None),
    "prediction_sets": None,
    "net_benefit": (),
    "corruptions": (),
    "subgroups": None,
    "failures": object(),
    "atlas": None,
}


def fake_module(name: str, calls: list[str]) -> Any:
    """A section module that returns the numbers of `NUMBERS` and records its calls."""

    def compute(inputs: object) -> Any:
        calls.append(f"compute {name} of {vars(inputs)}")
        return NUMBERS[name]

    def render(inputs: object, numbers: object) -> Any:
        assert numbers is NUMBERS[name]
        return section(name)

    return SimpleNamespace(TITLE=f"Title of {name}", compute=compute, render=render)


def test_sections_are_computed_in_order_with_progress():
    calls: list[str] = []
    steps: list[tuple[str, int, int]] = []
    progress = SimpleNamespace(step=lambda *step: steps.append(step))

    inputs: Any = SimpleNamespace(undertrained=("scratch",))
    made, sections = compose(inputs, progress, {name: fake_module(name, calls) for name in NUMBERS})

    assert made.undertrained == ("scratch",)
    assert calls == [f"compute {name} of {vars(inputs)}" for name in NUMBERS]
    assert [s.name for s in sections] == list(NUMBERS)
    assert steps[0] == ("Title of measures", 0, len(NUMBERS))
    assert steps[-1] == ("All sections", len(NUMBERS), len(NUMBERS))


def test_findings_come_from_the_numbers_of_the_sections():
    made = findings(NUMBERS)

    assert isinstance(made, Findings)
    assert (made.accuracy.value, made.sensitivity.value, made.specificity.value) == (90.0, 80.0, 70.0)
    assert made.comparisons is NUMBERS["strategy_comparison"].comparisons
    assert made.expected_accuracy.value == 89.5
    assert made.association is TWO_SOURCES
    assert made.probes is NUMBERS["shortcuts"].probes
    assert made.source_probes is NUMBERS["shortcuts"].sources
    assert made.external == (CONTRADICTION,)
    assert made.outside == (OUTSIDE,)
    assert made.within is WITHIN
    assert made.hospitals == (LARGE_PAIR,)
    assert made.unseen is None
    assert made.lungs is LUNGS_SEEN
    assert made.leakage is LEAKING
    assert made.calibration is None


def test_one_protocol_alone_has_no_leakage():
    assert findings({**NUMBERS, "leakage": None}).leakage is None


def test_all_section_modules_are_in_the_order_of_the_report():
    assert list(section_modules()) == list(NUMBERS)


@pytest.mark.parametrize("name", list(NUMBERS))
def test_every_section_module_has_a_title_and_both_functions(name):
    module = section_modules()[name]

    assert module.TITLE
    assert callable(module.compute)
    assert callable(module.render)


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
    """What all modules make of it."""
    return compose(images)


def test_the_report_of_a_study_with_its_images_says_what_was_not_computed(images, composed, tmp_path):
    made, sections = composed
    page = write_report(tmp_path, images, sections, made)

    assert [s.name for s in sections if s.absent] == [
        "shortcuts", "external", "strata", "outside", "left_out", "hospitals",
        "unseen_hospitals", "leakage", "reader_labels",
        "explanations", "corruptions", "atlas",
    ]  # fmt: skip
    assert made.accuracy.value == pytest.approx(images.results.best.pooled.accuracy_7_class)
    assert made.accuracy.low < made.accuracy.value < made.accuracy.high
    assert [c.other for c in made.comparisons] == ["off-the-shelf"]
    assert made.association.single_source["Edema"] == "nih"
    assert len(list((page.parent / "figures").iterdir())) >= 8
    # Images within their own sources are a test that needs no evidence.
    assert "Not tested:" not in page.read_text(encoding="utf-8")
    assert json.loads((page.parent / "results.json").read_text())["sections"]["calibration"]["values"]


def test_every_picture_is_described_and_every_table_marked(composed):
    _, sections = composed

    pictures = [picture for s in sections for picture in s.pictures]
    tables = [table for s in sections for table in (*s.tables, *s.folded)]
    assert all(p.alt.startswith("Synthetic images. ") and p.caption for p in pictures)
    assert [t.name for t in tables if not t.synthetic] == []
