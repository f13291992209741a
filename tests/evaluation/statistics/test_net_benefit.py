import numpy as np
import pytest

from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.net_benefit import net_benefits


def test_net_benefit_is_the_needed_actions_minus_the_weighted_needless_ones():
    positive = np.array([True] * 20 + [False] * 80)
    probability = np.array([0.5] * 15 + [0.05] * 5 + [0.5] * 10 + [0.05] * 70)
    (at_20,) = net_benefits(positive, probability, Bootstrap(np.arange(100)), (20,))

    assert at_20.network.value == pytest.approx(15 - 10 * 0.25)
    assert at_20.all_images == pytest.approx(20 - 80 * 0.25)
    assert at_20.network.low < at_20.network.value < at_20.network.high
    assert at_20.useful


def test_below_every_probability_the_network_acts_on_all():
    positive = np.arange(50) % 5 == 0
    (point,) = net_benefits(positive, np.full(50, 0.5), Bootstrap(np.arange(50)), (10,))

    assert point.network.value == pytest.approx(point.all_images)
    assert not point.useful


def test_a_perfect_network_is_better_at_every_threshold_also_if_the_share_of_covid19_is_uncertain():
    positive = np.arange(160) % 4 == 0
    points = net_benefits(positive, positive.astype(float), Bootstrap(np.arange(160)), (1, 5, 20, 60))

    assert all(point.useful for point in points)
    assert points[1].network.low < points[1].all_images  # most of the interval is the share of Covid19
    assert points[1].gain.value == pytest.approx(75 * 5 / 95)


def test_a_network_that_is_no_better_than_acting_on_all_is_useful_in_few_samples():
    random, useful = np.random.default_rng(0), 0
    for _ in range(60):
        positive = random.random(120) < 0.3
        (point,) = net_benefits(positive, random.random(120), Bootstrap(np.arange(120), replicates=200), (30,))
        useful += point.useful
    assert useful <= 6
