from types import SimpleNamespace
from typing import Any

import pytest

from cxr_platform.evaluation.compose import compose, findings, topics
from cxr_platform.evaluation.findings import Findings, LeakageFinding
from cxr_platform.evaluation.interval import Interval
from tests.evaluation.found import CONTRADICTION, LUNGS_SEEN, TWO_SOURCES, comparison, probe, section, told_source

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
    "subgroups": object(),
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

    _, sections = compose("films", lambda *step: steps.append(step), {name: fake(name, told) for name in FOUND})

    assert told == [f"find {name} in films" for name in FOUND]
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
