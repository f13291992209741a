from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.evidence_files import Evidence
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.explanations import compute, is_low, render
from cxr_platform.labels import CLASSES
from tests.evaluation.sections.explained_study import COUNT, LABELS, explained_study, without


def test_heat_in_the_lungs_is_not_a_low_share():
    overall = compute(explained_study(shares=0.8))

    assert overall.images == COUNT
    assert overall.share.value == pytest.approx(80, abs=1)
    assert overall.share.low < overall.share.value < overall.share.high
    assert overall.field_share == pytest.approx(57)
    assert not overall.low


def test_a_low_lung_share_gives_a_warning():
    inputs = explained_study(shares=0.3)
    overall = compute(inputs)
    made = render(inputs, overall)

    assert overall.low
    assert "no more than a map spread evenly" in made.warnings[0]
    assert made.values["low"] is True


@pytest.mark.parametrize(
    ("share", "low"),
    [(Interval(50, 44, 56), True), (Interval(50, 44, 57), True), (Interval(55, 50, 60), False), (Interval(5), False)],
)
def test_a_share_is_low_if_its_upper_bound_is_at_most_the_fields_share(share, low):
    assert is_low(share, 57.0) is low


def test_each_class_has_its_share_and_low_ones_are_named():
    inputs = explained_study(shares=np.where(np.array(LABELS) == "Edema", 0.2, 0.8))
    made = render(inputs, compute(inputs))
    table = made.tables[0]

    assert [row.labels[0] for row in table.rows] == [*CLASSES, "All"]
    assert table.rows[1].values[1].value == pytest.approx(20, abs=3)
    assert table.rows[-1].values[0] == COUNT
    assert "Not above the lungs' share of the image, even at the upper bound: Edema " in made.lead[1]
    assert "Covid19" not in made.lead[1]
    assert not made.warnings
    assert plain(made.values)["share"]["Edema"][0] == pytest.approx(20, abs=3)


def test_the_alternative_texts_contain_the_figures():
    inputs = explained_study()
    chart, examples = render(inputs, compute(inputs)).pictures

    assert "Covid19 8" in chart.alt
    assert "57.00\u00a0% of the image" in chart.alt
    assert examples.alt.count("source") == 2 * len(CLASSES)
    assert all(picture.png.startswith(b"\x89PNG") for picture in (chart, examples))


def test_empty_heatmaps_are_left_out_and_counted():
    inputs = explained_study()
    frame = inputs.evidence.parts["lung_share"].copy()
    frame.loc[:9, "share"] = np.nan
    fewer = replace(inputs, evidence=Evidence({"lung_share": frame}))
    made = render(fewer, compute(fewer))

    assert compute(fewer).images == COUNT - 10
    assert "10 images with an empty heatmap" in made.lead[1]
    assert made.values["empty_heatmaps"] == 10


def test_without_empty_heatmaps_the_text_does_not_mention_them():
    inputs = explained_study()
    made = render(inputs, compute(inputs))

    assert not any("empty heatmap" in sentence for sentence in made.lead)
    assert made.values["empty_heatmaps"] == 0


def test_shares_of_another_strategy_are_ignored():
    inputs = explained_study()
    frame = inputs.evidence.parts["lung_share"].assign(strategy="fine-tuning-1")
    other = replace(inputs, evidence=Evidence({"lung_share": frame}))

    assert compute(other) is None
    assert render(other, None).absent == "No heatmap of the winner shows any place."


def test_without_heatmaps_the_section_says_why():
    inputs = without(explained_study(), "lung_share")

    assert compute(inputs) is None
    assert render(inputs, None).absent == "No weights are at hand."


def test_without_images_there_are_only_the_figures():
    inputs = replace(explained_study(), images=None)

    assert [picture.name for picture in render(inputs, compute(inputs)).pictures] == ["lung-share"]
