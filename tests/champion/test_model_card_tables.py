"""The tables of the model card hold what the statistics found, and say where there is nothing to divide."""

from functools import cache

import pytest

from cxr_platform.champion.facts import OutOfFold, out_of_fold
from cxr_platform.champion.model_card_tables import factors_table, figures_table, sources_table, worth_table
from cxr_platform.evaluation.report_inputs import manifest_images
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT
from tests.champion.builders import COUNTS, material


@cache
def facts_of(strategy: str) -> OutOfFold:
    parts = material(strategy=strategy)
    return out_of_fold(parts.study, parts.predictions, strategy)


def test_the_winners_figures_stand_beside_those_of_another_strategy_only() -> None:
    own, both = figures_table(facts_of("scratch")), figures_table(facts_of("off-the-shelf"))
    assert own.columns == ("Training from scratch (95 % interval)",)
    assert both.columns == ("Off-the-shelf features (95 % interval)", "Training from scratch (95 % interval)")
    assert [row.values[1] for row in both.rows] == [row.values[0] for row in own.rows]
    assert len(own.rows) == len(FIGURES_OF_MERIT)


def test_the_worth_of_a_call_follows_from_the_threshold() -> None:
    point = facts_of("scratch").point
    found, missed = point.sensitivity.value * 0.05, (100 - point.sensitivity.value) * 0.05
    spared, alarms = point.specificity.value * 0.95, (100 - point.specificity.value) * 0.95
    row = next(row for row in worth_table(facts_of("scratch")).rows if row.labels == ("5 %",))
    assert row.values == pytest.approx((100 * found / (found + alarms), 100 * spared / (spared + missed)))


def test_parts_of_the_images_are_told_by_source_and_by_what_the_manifest_knows() -> None:
    parts = material()
    table = factors_table(facts_of("scratch"), parts.predictions, manifest_images(parts.manifest).facts)
    assert table is not None
    assert {row.labels[0] for row in table.rows} == {"source", "view", "all"}
    assert str(table.rows[-1].values[0]).endswith(f"n = {sum(COUNTS.values())}")


def test_images_that_are_all_alike_are_not_divided() -> None:
    parts = material()
    images = manifest_images(parts.manifest).facts.assign(view="PA")
    parts.predictions.source[:] = "one"
    assert factors_table(facts_of("scratch"), parts.predictions, images) is None


def test_images_are_counted_by_class_and_source() -> None:
    assert sources_table(facts_of("scratch")).rows[-1].values[-2] == sum(COUNTS.values())
