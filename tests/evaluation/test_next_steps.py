from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.credibility import belief
from cxr_platform.evaluation.findings import LeakageFinding
from cxr_platform.evaluation.next_steps import in_words, next_steps
from tests.evaluation.builders import drawn_frame
from tests.evaluation.found import CONTRADICTION, SINGLE, comparison, findings, probe


def steps(outcome, **changes) -> list[str]:
    found = findings(**changes)
    return next_steps(outcome, found, belief(outcome, found))


def test_classes_of_one_source_need_a_second(as_printed):
    assert steps(as_printed, association=SINGLE)[0] == (
        "get images of Edema, Effusion and Pneumonia from a second source and run again: `make cv-all DATA=FOLDER`"
    )


def test_a_contradiction_asks_for_more_sources(as_printed):
    assert steps(as_printed, external=(CONTRADICTION,))[0].startswith("train on images of more sources")


def test_probes_not_computed_are_asked_for_and_computed_ones_belong_beside_the_accuracy(as_printed):
    assert any("cxr report --study" in step for step in steps(as_printed, probes=()))
    assert any("no accuracy without the probes" in step for step in steps(as_printed, probes=(probe(shortcut=True),)))


def test_images_from_elsewhere_are_asked_for_until_there_are_some(as_printed):
    wanted = "score images from elsewhere: `cxr evaluate --study runs/test --data FOLDER`"

    assert wanted in steps(as_printed)
    assert wanted not in steps(as_printed, external=(CONTRADICTION,))


def test_the_other_protocol_is_asked_for_until_it_was_run(as_printed):
    known = LeakageFinding("scratch", Interval(0.2, -1.1, 1.5, signed=True))

    assert "see what leakage adds: `make cv-all DATA=FOLDER PROTOCOL=both`" in steps(as_printed)
    assert not any("leakage" in step for step in steps(as_printed, leakage=known))


def test_fewer_folds_than_the_paper_s_ask_for_its_profile(outcome, as_printed):
    few = outcome(drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}, folds=3))

    level = (comparison("off-the-shelf", 0.2, -1.0, 1.4, 0.9),)
    assert steps(few)[-2] == "repeat it as the paper did: `make cv-all DATA=FOLDER PROFILE=paper`"
    assert "tell the strategies apart" in steps(few, comparisons=level)[-2]
    assert not any("PROFILE=paper" in step for step in steps(as_printed))


def test_drawn_images_are_to_be_replaced_first(all_strategies):
    assert steps(all_strategies)[0] == "run the same on real images: `make cv-all DATA=FOLDER`"
    assert "`make cv-all PROTOCOL=both`" in " ".join(steps(all_strategies))


def test_three_steps_are_put_into_words():
    assert in_words(["one", "two", "three", "four"]) == ("One.", "Then two; then three.")
    assert in_words(["only"]) == ("Only.", "")
