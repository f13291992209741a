import numpy as np
import pytest

from cxr_platform.evaluation.metrics import FoldResult, StrategyResult, figures, spread
from cxr_platform.evaluation.ranking import ranking, verdict


def result(strategy: str, *folds: tuple[int, int, int]) -> StrategyResult:
    """Each fold: images right, Normal images taken for Covid19, Normal images taken for Pneumonia."""
    parts = []
    for number, (right, taken_for_covid, taken_for_pneumonia) in enumerate(folds):
        matrix = np.zeros((7, 7), dtype=int)
        matrix[0, 0], matrix[6, 6] = 1, right - 1
        matrix[6, 0], matrix[6, 5] = taken_for_covid, taken_for_pneumonia
        parts.append(FoldResult(number, matrix, figures(matrix)))
    pooled = sum(part.matrix for part in parts)
    spreads = {
        measure: spread(part.figures[measure] for part in parts)
        for measure in ("accuracy_2_class", "accuracy_7_class", "sensitivity", "specificity")
    }
    return StrategyResult(strategy, tuple(parts), pooled, figures(pooled), spreads)


def named(*results: StrategyResult) -> dict[str, StrategyResult]:
    return {r.strategy: r for r in results}


def test_the_highest_mean_seven_class_accuracy_wins():
    found = verdict(named(result("off-the-shelf", (80, 0, 20), (80, 0, 20)), result("scratch", (90, 5, 5), (70, 5, 5))))

    assert found.winner == "scratch"
    assert found.runner_up == "off-the-shelf"
    assert found.decided_by == "accuracy_7_class"
    assert found.margin_points == pytest.approx((90 + 100 * 70 / 80) / 2 - 80)
    assert found.folds_ahead == 2


def test_the_mean_over_folds_decides_where_the_pooled_accuracy_would_say_otherwise():
    uneven = result("off-the-shelf", (10, 0, 0), (50, 0, 50))
    even = result("scratch", (7, 0, 3), (65, 0, 35))

    assert uneven.pooled.accuracy_7_class < even.pooled.accuracy_7_class
    assert verdict(named(uneven, even)).winner == "off-the-shelf"


def test_equal_accuracy_is_decided_by_specificity():
    found = verdict(
        named(result("off-the-shelf", (80, 20, 0), (80, 20, 0)), result("scratch", (80, 0, 20), (80, 0, 20)))
    )

    assert found.winner == "scratch"
    assert found.decided_by == "specificity"


def test_accuracies_that_print_alike_count_as_equal():
    a = result("off-the-shelf", (80_001, 0, 19_999), (80_000, 0, 20_000))
    b = result("scratch", (80_002, 19_998, 0), (80_000, 20_000, 0))

    assert b.mean.accuracy_7_class > a.mean.accuracy_7_class
    assert verdict(named(a, b)).winner == "off-the-shelf"


def test_a_full_tie_is_said_to_be_one_and_keeps_the_order_of_the_paper():
    found = verdict(
        named(result("fine-tuning-1", (80, 0, 20), (80, 0, 20)), result("scratch", (80, 0, 20), (80, 0, 20)))
    )

    assert (found.winner, found.runner_up, found.decided_by) == ("fine-tuning-1", "scratch", "nothing")


def test_an_only_strategy_has_no_second():
    found = verdict(named(result("scratch", (80, 0, 20), (80, 0, 20))))

    assert (found.winner, found.runner_up, found.margin_points, found.folds_ahead) == ("scratch", None, None, None)


def test_the_ranking_runs_from_best_to_worst():
    results = named(*(result(name, (n, 0, 100 - n), (n, 0, 100 - n)) for name, n in (("a", 50), ("b", 90), ("c", 70))))

    assert [r.strategy for r in ranking(results)] == ["b", "c", "a"]


def test_all_that_the_rule_does_not_part_from_the_winner_are_level_with_it():
    alike = [result(name, (80, 0, 20), (80, 0, 20)) for name in ("a", "b", "c")]
    found = verdict(named(*alike, result("d", (70, 0, 30), (70, 0, 30))))

    assert (found.winner, found.level) == ("a", ("b", "c"))
