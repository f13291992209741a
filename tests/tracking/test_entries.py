"""Names and values, before MLflow is asked."""

from dataclasses import replace

import pytest

from cxr_platform.tracking import entries
from cxr_platform.tracking.finished import read_finished
from tests.tracking.builders import make_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    return read_finished(make_study(tmp_path_factory.mktemp("runs") / "test"))


def test_the_profile_is_told_under_the_names_that_override_it(finished):
    params = entries.study_params(finished)
    known = {"name": "quick", "folds": "3", "model.input_size": "96", "model.alpha": "1.0", "seed": "2020"}
    assert known.items() <= params.items()
    assert params["training.scratch.epochs"] == str(finished.study.profile.training.scratch.epochs)


def test_characters_that_mlflow_does_not_take_are_replaced(finished):
    odd = replace(finished, results={"sections": {"shares": {"<65 years/any": 3, "...": 4}}})
    names = [name for name, _, _ in entries.study_metrics(odd)]
    assert names == ["sections/shares/_65 years_any", "sections/shares/_"]


def test_lists_truths_undefined_and_the_papers_figures_are_no_metrics(finished):
    tree = {"a": {"list": [1], "truth": True, "none": None, "paper": {"sensitivity": 99.0}, "leakage": {"paper": 2}}}
    odd = replace(finished, results={"strategies": tree, "manifest": {"images": 7}})
    assert entries.study_metrics(odd) == [("strategies/a/leakage/paper", 2.0, 0)]


def test_a_trial_has_its_curves_a_step_an_epoch(finished):
    metrics = entries.trial_metrics(finished.trials[2])
    assert ("held_out/accuracy_percent", pytest.approx(82.0), 0) in metrics
    assert ("seconds/total", 12.5, 0) in metrics
    assert [(value, step) for name, value, step in metrics if name == "training/accuracy_percent"] == [
        (25, 1), (50, 2), (75, 3),
    ]  # fmt: skip
    assert entries.trial_params(finished.trials[2]) == {
        "strategy": "scratch", "fold": "2", "seed": "7", "backend": "tensorflow", "node": "a",
    }  # fmt: skip
