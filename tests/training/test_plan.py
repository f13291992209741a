import json
from dataclasses import replace

import pytest

from cxr_platform.config import differences, load_profile
from cxr_platform.domain.strategies import STRATEGY_NAMES, parse_strategies
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError
from cxr_platform.training.plan import StudyPlan, cuts_of, identity_differences, planned_trials
from tests.study_records import manifest_facts


def plan(profile: str = "quick", **overrides: object) -> StudyPlan:
    return StudyPlan("x", "grouped", STRATEGY_NAMES, load_profile(profile, overrides), manifest_facts())


def test_a_study_has_every_strategy_on_every_fold_once_the_longest_first() -> None:
    trials = plan().trials()
    assert len(set(trials)) == len(trials) == 24
    assert {t.strategy for t in trials} == set(STRATEGY_NAMES)
    assert trials[0].strategy == "scratch"
    assert trials[-1].strategy == "off-the-shelf"


def test_the_identity_has_training_and_manifest_and_not_resources_or_intake() -> None:
    same = plan(**{"resources.cpu": 8.0, "intake.selection.limit": 5})
    assert same.identity() == plan().identity()
    other = plan(**{"training.batch_size": 16})
    assert list(differences(plan().identity(), other.identity())) == ["training.batch_size: 32 → 16"]


def test_the_identity_has_the_backend_and_a_stated_precision() -> None:
    assert plan().identity()["backend"] == "tensorflow"
    assert "precision" not in plan().identity()
    assert plan(**{"training.precision": "mixed_float16"}).identity()["precision"] == "mixed_float16"


def test_a_precision_that_is_not_known_yet_differs_from_none() -> None:
    auto, half = plan().identity(), plan(**{"training.precision": "mixed_float16"}).identity()
    assert identity_differences(auto, half) == identity_differences(half, auto) == []
    full = {**auto, "precision": "float32"}
    assert identity_differences(half, full) == ["precision: mixed_float16 → float32"]


ROBUST_SETTINGS = {"robust": {"views": ["whole", "lungs"], "contrast": True}}


def test_the_identity_has_the_robust_settings_with_that_strategy_alone() -> None:
    plain, changed = plan(), plan(**ROBUST_SETTINGS)
    assert changed.identity() == plain.identity()
    assert "robust" not in plain.identity()
    assert changed.views == ()
    with_robust = replace(changed, strategies=("scratch", "robust"))
    assert with_robust.identity()["robust"]["views"] == ["whole", "lungs"]
    assert json.loads(json.dumps(with_robust.identity())) == with_robust.identity()
    assert with_robust.views == ("whole", "lungs")
    of_trials = [with_robust.trial_identity(TrialKey(name, 0)) for name in ("scratch", "robust")]
    assert ["robust" in identity for identity in of_trials] == [False, True]
    assert of_trials[0] == plain.trial_identity(TrialKey("scratch", 0))


def test_the_robust_settings_of_a_study_without_them_differ_from_none() -> None:
    without = plan(**ROBUST_SETTINGS).identity()
    both = [replace(each, strategies=("robust",)).identity() for each in (plan(), plan(**ROBUST_SETTINGS))]
    assert identity_differences(without, both[0]) == identity_differences(both[1], without) == []
    assert identity_differences(*both) == [
        "robust.contrast: False → True",
        "robust.views: ['whole'] → ['whole', 'lungs']",
    ]


def test_trials_of_robust_run_last_as_their_heads_are_solved() -> None:
    assert planned_trials(load_profile("quick"), ("robust", "off-the-shelf", "scratch"))[-1] == TrialKey("robust", 2)


def test_strategies_are_put_into_the_order_of_the_paper() -> None:
    assert parse_strategies("scratch, off-the-shelf") == ("off-the-shelf", "scratch")
    assert parse_strategies("all") == STRATEGY_NAMES
    assert parse_strategies("robust, all") == (*STRATEGY_NAMES, "robust")


def test_an_unknown_strategy_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"off-the-shelf, fine-tuning-1.*'foo'"):
        parse_strategies("scratch,foo")


def test_each_cut_is_below_the_trained_blocks_and_scratch_has_none() -> None:
    assert cuts_of(("off-the-shelf", "fine-tuning-1", "fine-tuning-11", "scratch")) == (
        "features",
        "block_15",
        "block_5",
    )
    assert cuts_of(("off-the-shelf", "robust")) == ("features", "views")


def test_the_origins_left_out_are_part_of_the_identity_as_they_decide_which_fold_leaves_which_out() -> None:
    before = replace(plan(), protocol="origins", left_out=("a", "b", "c"))
    after = replace(before, left_out=("a", "a hospital", "b"))
    assert identity_differences(json.loads(json.dumps(before.identity())), after.identity()) == [
        "left_out: ['a', 'b', 'c'] → ['a', 'a hospital', 'b']"
    ]
    assert before.trial_identity(TrialKey("scratch", 1))["left_out"] == ["a", "b", "c"]
    assert "left_out" not in plan().identity()
