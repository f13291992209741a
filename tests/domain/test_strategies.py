import pytest

from cxr_platform.domain.strategies import (
    EVERY_STRATEGY,
    STRATEGIES,
    STRATEGY_NAMES,
    compared_with_paper,
    strategy_by_name,
)
from cxr_platform.errors import ConfigError


def test_the_eight_strategies_are_in_the_papers_order() -> None:
    assert STRATEGY_NAMES == (
        "off-the-shelf",
        "fine-tuning-1",
        "fine-tuning-3",
        "fine-tuning-5",
        "fine-tuning-7",
        "fine-tuning-9",
        "fine-tuning-11",
        "scratch",
    )


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("off-the-shelf", "features"),
        ("fine-tuning-1", "block_15"),
        ("fine-tuning-3", "block_13"),
        ("fine-tuning-5", "block_11"),
        ("fine-tuning-7", "block_9"),
        ("fine-tuning-9", "block_7"),
        ("fine-tuning-11", "block_5"),
        ("scratch", None),
        ("robust", "views"),
    ],
)
def test_the_cut_is_the_last_frozen_block(name: str, cut: str | None) -> None:
    assert strategy_by_name(name).cut == cut


def test_all_but_scratch_start_from_imagenet() -> None:
    assert [s.name for s in EVERY_STRATEGY if not s.pretrained] == ["scratch"]


def test_robust_alone_is_solved_and_not_the_papers() -> None:
    assert [s.name for s in EVERY_STRATEGY if s.is_solved] == ["robust"]
    assert {s.name for s in EVERY_STRATEGY} - set(STRATEGY_NAMES) == {"robust"}


def test_tables_have_the_papers_strategies_and_the_studys_own() -> None:
    assert compared_with_paper(["scratch"]) == STRATEGY_NAMES
    assert compared_with_paper(["robust", "scratch"]) == (*STRATEGY_NAMES, "robust")


def test_the_six_depths_of_fine_tuning_share_a_schedule() -> None:
    assert [s.family for s in STRATEGIES] == ["off_the_shelf", *["fine_tuning"] * 6, "scratch"]


def test_an_unknown_strategy_is_answered_with_the_names() -> None:
    with pytest.raises(
        ConfigError, match=r"off-the-shelf, fine-tuning-1, .*, scratch, robust\. Received: 'fine-tuning-2'"
    ):
        strategy_by_name("fine-tuning-2")
