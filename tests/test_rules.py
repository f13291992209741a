from dataclasses import replace

import pytest

from cxr_platform.config import load_profile
from cxr_platform.rules import broken_rules


@pytest.mark.parametrize("name", ["quick", "paper"])
def test_the_profiles_of_the_package_keep_every_rule(name: str) -> None:
    assert broken_rules(load_profile(name)) == []


def test_every_broken_rule_is_told_not_only_the_first() -> None:
    profile = replace(load_profile("quick"), folds=1, seed=-1)
    assert broken_rules(profile) == ["folds at least 2", "seed from 0 to below 2**32"]


def test_a_value_that_is_no_number_breaks_its_rule() -> None:
    profile = load_profile("quick")
    profile = replace(profile, model=replace(profile.model, dropout=float("nan")))
    assert broken_rules(profile) == ["model.dropout from 0 to below 1"]
