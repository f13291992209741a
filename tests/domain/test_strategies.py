import pytest

from cxr_platform.domain.strategies import STRATEGIES, STRATEGY_NAMES, strategy_by_name
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
    ],
)
def test_the_cut_is_the_last_frozen_block(name: str, cut: str | None) -> None:
    assert strategy_by_name(name).cut == cut


def test_all_but_scratch_start_from_imagenet() -> None:
    assert [s.name for s in STRATEGIES if not s.pretrained] == ["scratch"]


def test_the_six_depths_of_fine_tuning_share_a_schedule() -> None:
    assert [s.family for s in STRATEGIES] == ["off_the_shelf", *["fine_tuning"] * 6, "scratch"]


def test_an_unknown_strategy_is_answered_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"off-the-shelf, fine-tuning-1, .*, scratch\. Received: 'fine-tuning-2'"):
        strategy_by_name("fine-tuning-2")
