import json
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.errors import ConfigError, StudyError
from cxr_platform.training.plan import relative_cost
from cxr_platform.training.trial_times import assumed_times, measured_times, scaled_times, select_times, stated_times
from tests.training.builders import tiny_profile
from tests.training.running_study import begin, finish


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Trained on 28 of 56 images of 32 pixels for 2 epochs."""
    root = begin(tmp_path / "images")
    finish(root, "scratch", 0, 100)
    finish(root, "scratch", 1, 140)
    finish(root, "off-the-shelf", 0, 10)
    return root


def test_measured_times_are_the_means_of_finished_trials(study: Path) -> None:
    times = measured_times(study, tiny_profile(), ["off-the-shelf", "scratch"])

    assert times.seconds == {"off-the-shelf": 10, "scratch": 120}
    assert times.origin == "measured in 3 trials of images"


def test_a_strategy_without_a_finished_trial_is_guessed_and_named(study: Path) -> None:
    profile = tiny_profile()
    times = measured_times(study, profile, ["scratch", "fine-tuning-3"])
    costs = {name: relative_cost(profile, name) for name in ("scratch", "off-the-shelf", "fine-tuning-3")}
    pace = 250 / (2 * costs["scratch"] + costs["off-the-shelf"])

    assert times.seconds == {"scratch": 120, "fine-tuning-3": pytest.approx(pace * costs["fine-tuning-3"])}
    assert times.origin.endswith("but guessed by relative cost: fine-tuning-3")


def test_a_guess_has_the_epochs_that_a_small_collection_gets(study: Path) -> None:
    few = {"training.fine_tuning": {"epochs": 2, "learning_rate": 0.001, "steps": 100}}
    usual, longer = (
        measured_times(study, tiny_profile(**more), ["scratch", "fine-tuning-3"]).seconds for more in ({}, few)
    )
    assert longer["scratch"] == usual["scratch"]
    assert longer["fine-tuning-3"] > 5 * usual["fine-tuning-3"]


def test_a_head_that_is_solved_takes_a_time_that_scales_with_images_alone(tmp_path: Path) -> None:
    root = begin(tmp_path / "images", ("robust",))
    finish(root, "robust", 0, 5)
    times = measured_times(root, tiny_profile(), ["robust"])
    assert times.seconds == {"robust": 5}
    assert scaled_times(times, 112, tiny_profile(**{"model.input_size": 96})).seconds["robust"] == pytest.approx(10)


def test_a_study_without_a_finished_trial_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="finished trials"):
        measured_times(begin(tmp_path / "s"), tiny_profile(), ["scratch"])


def test_times_of_another_size_are_scaled_by_images_pixels_and_epochs(study: Path) -> None:
    times = measured_times(study, tiny_profile(), ["off-the-shelf", "scratch"])
    longer = {"training.scratch": {"epochs": 6, "learning_rate": 0.001}}
    large = tiny_profile(folds=10, **{"model.input_size": 96, **longer})
    result = scaled_times(times, 560, large)

    assert result.seconds["scratch"] == pytest.approx(120 * (504 / 28) * 9 * 3)
    assert result.seconds["off-the-shelf"] == pytest.approx(10 * (504 / 28))  # on pooled features, which have no pixels
    assert result.origin.endswith("scaled to 560 images, 96 px, 10 folds")


def test_more_folds_train_on_a_larger_share_of_the_same_images(study: Path) -> None:
    times = measured_times(study, tiny_profile(), ["scratch"])

    assert scaled_times(times, None, tiny_profile(folds=10)).seconds["scratch"] == pytest.approx(120 * 0.9 / 0.5)


def test_times_of_the_same_size_are_unchanged(study: Path) -> None:
    times = measured_times(study, tiny_profile(), ["scratch"])

    assert scaled_times(times, None, tiny_profile()) == times


@pytest.mark.parametrize("name", ["times.toml", "times.json"])
def test_stated_times_name_their_source(tmp_path: Path, name: str) -> None:
    (tmp_path / "times.toml").write_text('source = "a guess"\n[seconds]\nscratch = 60\noff-the-shelf = 2.5\n')
    (tmp_path / "times.json").write_text(
        json.dumps({"source": "a guess", "seconds": {"scratch": 60, "off-the-shelf": 2.5}})
    )
    times = stated_times(tmp_path / name)

    assert times.seconds == {"scratch": 60.0, "off-the-shelf": 2.5}
    assert times.origin == f"stated in {name}: a guess"
    with pytest.raises(ConfigError, match="known size"):
        scaled_times(times, 100, tiny_profile())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.toml", "[seconds]\nscratch = 3", "missing source"),
        ("t.toml", 'source = "x"', r"missing seconds\. Give source"),
        ("t.toml", 'source = "x"\n[seconds]', "seconds: expected"),
        ("t.toml", 'sauce = "x"\n[seconds]\nscratch = 3', "Did you mean 'source'"),
        ("t.toml", 'source = "x"\n[seconds]\ntrane = 3', "Expected a strategy"),
        ("t.toml", 'source = "x"\n[seconds]\nscratch = 0', "seconds.scratch: expected greater than 0"),
        ("t.toml", 'source = "x"\n[seconds]\nscratch = "3"', "seconds.scratch: expected a number"),
        ("t.toml", "source", "Expected TOML"),
        ("t.json", "{", "Expected JSON"),
        ("t.json", "[]", "expected a table"),
        ("absent.json", None, "readable JSON"),
        ("absent.toml", None, "readable TOML"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=words):
        stated_times(tmp_path / name)


def test_assumed_times_follow_the_formula() -> None:
    times = assumed_times(load_profile("paper"), 1000, full_rate=100, head_rate=2000, trials_per_gpu=1)

    assert list(times.seconds) == list(STRATEGY_NAMES)
    assert times.seconds["scratch"] == pytest.approx(900 * 60 / 100)
    assert times.seconds["off-the-shelf"] == pytest.approx(900 * 30 / 2000)
    assert times.seconds["fine-tuning-3"] == pytest.approx(900 * 20 * 0.16 / 100)
    assert times.origin.startswith("ASSUMED, not measured")


def test_trials_on_one_gpu_share_its_rate() -> None:
    alone, four = (assumed_times(load_profile("paper"), 1000, 100, 2000, trials_per_gpu=n) for n in (1, 4))

    assert four.seconds == {name: pytest.approx(4 * seconds) for name, seconds in alone.seconds.items()}


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_a_rate_of_zero_is_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        assumed_times(load_profile("paper"), *numbers, trials_per_gpu=1)


def test_strategies_are_chosen_by_name_and_must_have_a_time(tmp_path: Path) -> None:
    times = assumed_times(load_profile("paper"), 1000, 100, 2000, 1)

    assert list(select_times(times, "scratch,fine-tuning-1").seconds) == ["fine-tuning-1", "scratch"]
    assert select_times(times, None) == times
    with pytest.raises(ConfigError, match="a time for fine-tuning-1"):
        select_times(replace(times, seconds={"scratch": 1.0}), "scratch,fine-tuning-1")
