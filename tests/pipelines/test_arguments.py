import argparse

import pytest

from cxr_platform.config import load_profile
from pipelines.arguments import add_profile_arguments, profile_overrides


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verb")
    add_profile_arguments(parser)
    return parser.parse_args(words)


def test_without_arguments_the_quick_profile_is_taken_as_it_is() -> None:
    arguments = parsed()
    assert arguments.profile == "quick"
    assert profile_overrides(arguments) == {}


def test_only_what_was_given_is_overridden() -> None:
    assert profile_overrides(parsed("--folds", "4")) == {"folds": 4}


def test_a_zero_counts_as_given() -> None:
    assert profile_overrides(parsed("--seed", "0")) == {"seed": 0}


def test_every_argument_reaches_its_place_in_the_profile() -> None:
    arguments = parsed("--folds", "4", "--seed", "7", "--input-size", "64", "--limit", "50")
    profile = load_profile(arguments.profile, profile_overrides(arguments))
    assert (profile.folds, profile.seed) == (4, 7)
    assert (profile.model.input_size, profile.intake.selection.limit) == (64, 50)


def test_a_word_where_a_number_is_asked_for_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--folds", "ten")
    assert caught.value.code == 2
    assert "--folds: invalid int value: 'ten'" in capsys.readouterr().err
