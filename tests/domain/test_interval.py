import pytest

from cxr_platform.domain.interval import Interval


@pytest.mark.parametrize(
    ("low", "high", "excludes"), [(0.1, 2.0, True), (-2.0, -0.1, True), (-1.0, 1.0, False), (0.0, 1.0, False)]
)
def test_a_difference_is_more_than_chance_where_its_interval_leaves_zero_out(
    low: float, high: float, excludes: bool
) -> None:
    assert Interval(0.5, low, high).excludes_zero is excludes


def test_a_difference_without_bounds_says_nothing() -> None:
    assert not Interval(5.0).excludes_zero
