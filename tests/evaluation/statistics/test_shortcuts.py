import numpy as np
import pandas as pd
import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.shortcuts import (
    NOT_PROBED,
    is_shortcut,
    predicted_classes,
    probe_rates,
    share_kept,
)

WHOLE = Interval(90.0, 88.0, 92.0)


@pytest.mark.parametrize(
    ("probe", "control", "chance", "kept"),
    [(60.0, 90.0, 40.0, 0.4), (95.0, 90.0, 40.0, 1.1), (30.0, 90.0, 40.0, -0.2), (60.0, 40.0, 40.0, None)],
)
def test_the_share_of_the_lead_over_chance_that_is_kept(
    probe: float, control: float, chance: float, kept: float | None
) -> None:
    assert share_kept(probe, control, chance) == (None if kept is None else pytest.approx(kept))


def test_undefined_accuracies_have_no_share() -> None:
    assert share_kept(None, 90.0, 40.0) is None
    assert share_kept(60.0, None, 40.0) is None
    assert not is_shortcut(Interval(None), WHOLE, 40.0)
    assert not is_shortcut(WHOLE, WHOLE, None)


@pytest.mark.parametrize(
    ("probe", "verdict"),
    [
        (Interval(66.0, 64.0, 68.0), True),
        (Interval(65.0, 63.0, 67.0), False),  # exactly half
        (Interval(64.0, 62.0, 66.0), False),
        (Interval(70.0, 39.0, 95.0), False),  # may be chance
        (Interval(70.0), False),
    ],
)
def test_a_shortcut_keeps_more_than_half_and_exceeds_chance(probe: Interval, verdict: bool) -> None:
    assert is_shortcut(probe, WHOLE, 40.0) is verdict


def test_there_is_no_shortcut_if_the_control_may_be_chance() -> None:
    assert not is_shortcut(Interval(60.0, 50.0, 70.0), Interval(60.0, 39.0, 80.0), 40.0)


def test_classes_are_predicted_in_the_order_of_the_images_and_for_no_other() -> None:
    rows = pd.DataFrame(np.eye(7)[[3, 5]], columns=list(PROBABILITY_COLUMNS)).assign(image_id=["b", "a"])
    assert list(predicted_classes(rows, np.array(["a", "x", "b"], object))) == [5, NOT_PROBED, 3]


def test_rates_are_those_of_the_probed_images() -> None:
    labels, predicted = np.array([0, 0, 6, 6, 6]), np.array([0, 6, 6, 5, NOT_PROBED])
    rates = probe_rates(Bootstrap(np.array(list("abcde"), object), seed=1), labels, predicted)
    assert [rate.value for rate in rates] == [50.0, 50.0, 100.0]
