import json

import numpy as np
import pytest

from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.evaluation.resource_use import ResourceUse
from cxr_platform.evaluation.results_json import plain, results_tree
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import drawn_frame
from tests.evaluation.made_findings import CONTRADICTION, contents, findings, full_section, section


def stored(results, sections=(), with_findings=None) -> dict:
    """As a reader of the file gets it; NaN would be no JSON."""
    return json.loads(json.dumps(results_tree(contents(results, sections, with_findings)), allow_nan=False))


def test_the_figures_of_a_study_like_the_paper_s_are_the_paper_s(as_printed):
    scratch = stored(as_printed)["strategies"]["scratch"]

    assert scratch["two_class"] == {"tp": 443, "fp": 20, "fn": 12, "tn": 3430}
    assert scratch["confusion_matrix"] == scratch["paper"]["confusion_matrix"]
    assert scratch["pooled"]["accuracy_7_class"] == pytest.approx(100 * 3423 / 3905)
    assert scratch["paper"]["accuracy_7_class"] == 87.66
    assert scratch["mean_minus_paper"]["accuracy_7_class"] == pytest.approx(scratch["mean"]["accuracy_7_class"] - 87.66)


def test_every_strategy_has_every_fold(all_strategies):
    tree = stored(all_strategies)

    assert list(tree["strategies"]) == list(STRATEGY_NAMES)
    for strategy in tree["strategies"].values():
        assert [fold["fold"] for fold in strategy["folds"]] == [0, 1, 2, 3, 4]
        assert sum(fold["images"] for fold in strategy["folds"]) == 391


def test_the_winner_has_the_rule_and_the_line_for_the_terminal(all_strategies):
    winner = stored(all_strategies)["winner"]

    assert winner["winner"] == "scratch"
    assert winner["decided_by"] == "accuracy_7_class"
    assert "specificity" in winner["rule"]
    assert winner["line"].startswith("Winner by the paper's rule: scratch")


def test_known_patients_are_counted_by_source_and_in_all(results):
    frame = drawn_frame({"scratch": 0.9})
    frame["source"] = np.where(frame["label"] == "Covid19", "cohen", "nih")
    study = results(frame, known_patients={"nih": 100})
    covid = len(frame[frame["source"] == "cohen"])
    known = stored(study)["known_patients"]
    assert (known["images"], known["known"], known["share"]) == (391, 100, pytest.approx(100 * 100 / 391))
    assert known["sources"]["cohen"] == {"images": covid, "known": 0, "share": 0.0}


def test_study_and_manifest_are_identified(all_strategies):
    tree = stored(all_strategies)

    assert tree["schema_version"] == 5
    assert tree["rates_unit"] == "percent"
    assert tree["classes"] == list(CLASSES)
    assert tree["manifest"]["content_hash"] == "b3f0c4de"
    assert tree["manifest"]["synthetic"] is True
    assert tree["study"]["protocol"] == "grouped"


def test_resource_use_has_its_ratios(as_printed):
    assert stored(as_printed)["resource_use"] == {
        "trials": 80,
        "busy_seconds": 7200.0,
        "cpu_seconds": 14400.0,
        "gpu_seconds": 1800.0,
        "wall_seconds": 3600.0,
        "trials_at_once": 2.0,
        "gpus_at_once": 0.5,
        "machines": {},
        "numerics": {},
        "cache": None,
    }


def test_sums_of_trials_that_cannot_be_read_are_null(as_printed):
    tree = results_tree(contents(as_printed, resource_use=ResourceUse(80, 7200.0)))["resource_use"]

    assert tree["busy_seconds"] == 7200.0
    assert tree["gpu_seconds"] is tree["wall_seconds"] is tree["trials_at_once"] is tree["gpus_at_once"] is None


def test_strategies_not_run_are_listed(results):
    assert stored(results(drawn_frame({"scratch": 0.9})))["not_run"] == [s for s in STRATEGY_NAMES if s != "scratch"]


def test_undefined_figures_are_null(results):
    frame = drawn_frame({"scratch": 0.9})
    scratch = stored(results(frame[frame["label"] != "Covid19"]))["strategies"]["scratch"]

    assert scratch["mean"]["sensitivity"] is None
    assert scratch["folds_defined"]["sensitivity"] == 0
    assert scratch["folds"][0]["sensitivity"] is None
    assert scratch["folds"][0]["specificity"] is not None


def test_every_section_has_its_values_under_its_name(all_strategies):
    absent = section("atlas", absent="No weights.", warnings=("Beware.",))
    sections = stored(all_strategies, [full_section("sources"), absent])["sections"]

    assert sections["sources"]["values"] == {"rate": 3.0, "undefined": None}
    assert sections["sources"]["absent"] is None
    assert sections["atlas"] == {
        "title": "Section atlas",
        "absent": "No weights.",
        "warnings": ["Beware."],
        "values": {},
    }


def test_findings_and_the_summary_are_stored(all_strategies):
    tree = stored(all_strategies, with_findings=findings(external=(CONTRADICTION,)))

    assert tree["findings"]["external"][0]["source"] == "actualmed"
    assert tree["findings"]["external"][0]["external"]["low"] == 5.56
    assert [line["alarm"] for line in tree["summary"]["lines"]] == [False, False, False, True, False]


def test_numpy_s_numbers_become_json_and_nan_becomes_null():
    values = {"a": np.float32(0.5), "b": np.arange(2), "c": (float("nan"), np.int64(3)), 4: [np.nan]}

    assert plain(values) == {"a": 0.5, "b": [0, 1], "c": [None, 3], "4": [None]}
