"""One sentence on whether the champion's strategy is the study's winner."""

from dataclasses import replace
from functools import cache

import pytest

from cxr_platform.champion.facts import OutOfFold, out_of_fold
from cxr_platform.champion.winner import another_won, winner_sentence
from cxr_platform.evaluation.study_results import Decision, StudyResults
from tests.champion.builders import material


@cache
def facts_of(strategy: str) -> OutOfFold:
    parts = material(strategy=strategy)
    return out_of_fold(parts.study, parts.predictions, strategy)


def judged(facts: OutOfFold, verdict: Decision, monkeypatch: pytest.MonkeyPatch) -> OutOfFold:
    monkeypatch.setattr(StudyResults, "decision", property(lambda _: verdict))
    return replace(facts, winner=facts.winner if verdict.winner != facts.strategy else None)


def test_the_winner_says_so() -> None:
    assert winner_sentence(facts_of("scratch")) == "This strategy, training from scratch, won the study."
    assert not another_won(facts_of("scratch"))


def test_a_loser_names_the_winner_and_gives_the_figures_of_both() -> None:
    facts = facts_of("off-the-shelf")
    assert another_won(facts)
    told = winner_sentence(facts).replace("\N{NO-BREAK SPACE}", " ")
    assert told.startswith("Another strategy won the study: training from scratch, 7-class accuracy 74.40 %")
    assert "This model is of off-the-shelf features: 7-class accuracy 44.05 %" in told


@pytest.mark.parametrize("strategy", ["scratch", "off-the-shelf"])
def test_of_level_strategies_none_is_said_to_have_won(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    level = Decision("off-the-shelf", "scratch", 0.0, "nothing", 0, ("scratch",))
    facts = judged(facts_of(strategy), level, monkeypatch)
    other = {"scratch": "off-the-shelf features", "off-the-shelf": "training from scratch"}[strategy]
    assert winner_sentence(facts).endswith(f"shares the first place of the study with {other}.")
    assert not another_won(facts)


def test_an_only_strategy_has_won_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = judged(facts_of("scratch"), Decision("scratch", None, None, "nothing", None), monkeypatch)
    assert winner_sentence(facts) == "No other strategy was run in the study than this one, training from scratch."
