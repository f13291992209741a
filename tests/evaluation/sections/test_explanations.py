from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.evidence_files import Evidence
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.explanations import compute, is_low, render
from cxr_platform.labels import CLASSES
from tests.evaluation.sections.looked_at import COUNT, LABELS, looked_at, without


def test_heat_in_the_lungs_is_not_low():
    found = compute(looked_at(shares=0.8))

    assert found.images == COUNT
    assert found.share.value == pytest.approx(80, abs=1)
    assert found.share.low < found.share.value < found.share.high
    assert found.field_share == pytest.approx(57)
    assert not found.low


def test_heat_elsewhere_is_low_and_warned_of():
    inputs = looked_at(shares=0.3)
    found = compute(inputs)
    made = render(inputs, found)

    assert found.low
    assert "no more than a map spread evenly" in made.warnings[0]
    assert made.values["low"] is True


@pytest.mark.parametrize(
    ("share", "low"),
    [(Interval(50, 44, 56), True), (Interval(50, 44, 57), True), (Interval(55, 50, 60), False), (Interval(5), False)],
)
def test_it_is_low_where_the_upper_bound_is_not_above_the_fields_share(share, low):
    assert is_low(share, 57.0) is low


def test_each_class_has_its_share_and_the_low_ones_are_named():
    inputs = looked_at(shares=np.where(np.array(LABELS) == "Edema", 0.2, 0.8))
    made = render(inputs, compute(inputs))
    table = made.tables[0]

    assert [row.labels[0] for row in table.rows] == [*CLASSES, "All"]
    assert table.rows[1].values[1].value == pytest.approx(20, abs=3)
    assert table.rows[-1].values[0] == COUNT
    assert "Not above the field's share, even at the upper bound: Edema " in made.lead[1]
    assert "Covid19" not in made.lead[1]
    assert not made.warnings
    assert plain(made.values)["share"]["Edema"][0] == pytest.approx(20, abs=3)


def test_the_pictures_tell_their_figures():
    inputs = looked_at()
    chart, examples = render(inputs, compute(inputs)).pictures

    assert "Covid19 8" in chart.alt
    assert "57.00\u00a0% of the image" in chart.alt
    assert examples.alt.count("source") == 2 * len(CLASSES)
    assert all(picture.png.startswith(b"\x89PNG") for picture in (chart, examples))


def test_a_map_without_a_share_is_left_out_and_said_to_be():
    inputs = looked_at()
    frame = inputs.evidence.parts["lung_share"].copy()
    frame.loc[:9, "share"] = np.nan
    fewer = replace(inputs, evidence=Evidence({"lung_share": frame}))
    made = render(fewer, compute(fewer))

    assert compute(fewer).images == COUNT - 10
    assert "10 images with an empty heatmap" in made.lead[1]
    assert made.values["empty_heatmaps"] == 10


def test_where_every_map_has_a_share_nothing_is_said_of_empty_ones():
    inputs = looked_at()
    made = render(inputs, compute(inputs))

    assert not any("empty heatmap" in sentence for sentence in made.lead)
    assert made.values["empty_heatmaps"] == 0


def test_shares_of_another_strategy_do_not_count():
    inputs = looked_at()
    frame = inputs.evidence.parts["lung_share"].assign(strategy="fine-tuning-1")
    other = replace(inputs, evidence=Evidence({"lung_share": frame}))

    assert compute(other) is None
    assert render(other, None).absent == "No heatmap of the winner shows any place."


def test_without_heatmaps_it_says_why():
    inputs = without(looked_at(), "lung_share")

    assert compute(inputs) is None
    assert render(inputs, None).absent == "No weights are at hand."


def test_without_images_the_figures_stay():
    inputs = replace(looked_at(), images=None)

    assert [picture.name for picture in render(inputs, compute(inputs)).pictures] == ["lung-share"]
