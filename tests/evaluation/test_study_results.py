import numpy as np
import pytest

from cxr_platform.evaluation.metrics import FoldResult, StrategyResult, compute_metrics, spread
from cxr_platform.evaluation.study_results import decide, ranking
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import ACCURACIES, drawn_frame


def test_results_have_every_strategy_in_the_order_of_the_paper(all_strategies):
    assert list(all_strategies.strategies) == list(ACCURACIES)
    assert all_strategies.images == 391


def test_the_figures_are_those_that_were_drawn(all_strategies):
    for name, accuracy in ACCURACIES.items():
        assert all_strategies.strategies[name].pooled.accuracy_7_class == pytest.approx(100 * accuracy, abs=7)


def test_the_best_is_the_first_of_the_ranking(all_strategies):
    assert all_strategies.best is all_strategies.ranking[0]
    assert all_strategies.decision.winner == all_strategies.best.strategy == "scratch"


def test_the_majority_class_of_the_paper_is_normal(as_printed):
    assert f"{as_printed.majority_accuracy:.2f}" == f"{100 * 1341 / 3905:.2f}"


def test_classes_of_one_source_are_found(all_strategies):
    assert all_strategies.single_source == {
        "Edema": "nih", "Effusion": "nih", "Emphysema": "nih", "Fibrosis": "nih", "Pneumonia": "kermany"
    }  # fmt: skip


def test_classes_of_several_sources_are_not_single(results):
    frame = drawn_frame({"scratch": 0.9})
    frame["source"] = ["a" if i % 2 else "b" for i in range(len(frame))]

    two_sources = results(frame)

    assert two_sources.single_source == {}
    assert all(two_sources.counts[label].keys() == {"a", "b"} for label in CLASSES)


def result(strategy: str, *folds: tuple[int, int, int]) -> StrategyResult:
    """Each fold: images right, Normal images taken for Covid19, Normal images taken for Pneumonia."""
    parts = []
    for number, (right, taken_for_covid, taken_for_pneumonia) in enumerate(folds):
        matrix = np.zeros((7, 7), dtype=int)
        matrix[0, 0], matrix[6, 6] = 1, right - 1
        matrix[6, 0], matrix[6, 5] = taken_for_covid, taken_for_pneumonia
        parts.append(FoldResult(number, matrix, compute_metrics(matrix)))
    pooled = sum(part.matrix for part in parts)
    spreads = {
        measure: spread(part.metrics[measure] for part in parts)
        for measure in ("accuracy_2_class", "accuracy_7_class", "sensitivity", "specificity")
    }
    return StrategyResult(strategy, tuple(parts), pooled, compute_metrics(pooled), spreads)


def named(*results: StrategyResult) -> dict[str, StrategyResult]:
    return {r.strategy: r for r in results}


def test_the_highest_mean_seven_class_accuracy_wins():
    decision = decide(
        named(result("off-the-shelf", (80, 0, 20), (80, 0, 20)), result("scratch", (90, 5, 5), (70, 5, 5)))
    )

    assert decision.winner == "scratch"
    assert decision.runner_up == "off-the-shelf"
    assert decision.decided_by == "accuracy_7_class"
    assert decision.margin_points == pytest.approx((90 + 100 * 70 / 80) / 2 - 80)
    assert decision.folds_ahead == 2


def test_the_mean_over_folds_decides_where_the_pooled_accuracy_would_say_otherwise():
    uneven = result("off-the-shelf", (10, 0, 0), (50, 0, 50))
    even = result("scratch", (7, 0, 3), (65, 0, 35))

    assert uneven.pooled.accuracy_7_class < even.pooled.accuracy_7_class
    assert decide(named(uneven, even)).winner == "off-the-shelf"


def test_equal_accuracy_is_decided_by_specificity():
    decision = decide(
        named(result("off-the-shelf", (80, 20, 0), (80, 20, 0)), result("scratch", (80, 0, 20), (80, 0, 20)))
    )

    assert decision.winner == "scratch"
    assert decision.decided_by == "specificity"


def test_accuracies_that_print_alike_count_as_equal():
    a = result("off-the-shelf", (80_001, 0, 19_999), (80_000, 0, 20_000))
    b = result("scratch", (80_002, 19_998, 0), (80_000, 20_000, 0))

    assert b.mean.accuracy_7_class > a.mean.accuracy_7_class
    assert decide(named(a, b)).winner == "off-the-shelf"


def test_a_full_tie_is_undecided_and_keeps_the_order_of_the_paper():
    decision = decide(
        named(result("fine-tuning-1", (80, 0, 20), (80, 0, 20)), result("scratch", (80, 0, 20), (80, 0, 20)))
    )

    assert (decision.winner, decision.runner_up, decision.decided_by) == ("fine-tuning-1", "scratch", "nothing")


def test_an_only_strategy_has_no_second():
    decision = decide(named(result("scratch", (80, 0, 20), (80, 0, 20))))

    assert (decision.winner, decision.runner_up, decision.margin_points, decision.folds_ahead) == (
        "scratch",
        None,
        None,
        None,
    )


def test_the_ranking_runs_from_best_to_worst():
    results = named(*(result(name, (n, 0, 100 - n), (n, 0, 100 - n)) for name, n in (("a", 50), ("b", 90), ("c", 70))))

    assert [r.strategy for r in ranking(results)] == ["b", "c", "a"]


def test_all_that_the_rule_does_not_part_from_the_winner_are_level_with_it():
    alike = [result(name, (80, 0, 20), (80, 0, 20)) for name in ("a", "b", "c")]
    decision = decide(named(*alike, result("d", (70, 0, 30), (70, 0, 30))))

    assert (decision.winner, decision.tied) == ("a", ("b", "c"))
