import json

import numpy as np
import pytest

from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.net_benefit import ABSENT, CURVE, compute, net_benefits, render
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from tests.evaluation.planted import predictions, report_inputs


def rendered(label, said=None, **options):
    inputs = report_inputs(predictions(["a"] * len(label), label, said), **options)
    return render(inputs, compute(inputs))


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


def test_a_network_that_recognises_covid19_is_of_use():
    section = rendered(["Covid19", "Normal", "Normal", "Normal"] * 40, synthetic=True)

    assert section.lead[0].startswith("Training from scratch is better than acting on all images or on none at ")
    assert "It is 25.00\N{NO-BREAK SPACE}% here." in section.lead[2]
    assert {row.values[-1] for row in section.tables[0].rows[1:]} == {"yes"}
    assert section.pictures[0].alt.startswith("Synthetic images. Decision curve")


def test_a_network_that_guesses_is_of_no_use():
    label = ["Covid19", "Normal", "Covid19", "Normal"] * 40
    section = rendered(label, ["Covid19", "Covid19", "Normal", "Normal"] * 40)

    assert section.lead[0].startswith("At no threshold is training from scratch shown to be better")


def test_without_covid19_there_is_no_curve():
    assert rendered(["Normal"] * 6).absent == ABSENT


def test_the_values_are_plain_json():
    section = rendered(["Covid19", "Normal"] * 20)
    assert len(json.loads(json.dumps(plain(section.values), allow_nan=False))["curve"]) == len(CURVE)
