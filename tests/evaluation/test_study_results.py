import pytest

from cxr_platform.labels import CLASSES
from tests.evaluation.builders import ACCURACIES, drawn_frame


def test_an_outcome_holds_every_strategy_of_the_study_in_the_order_of_the_paper(all_strategies):
    assert list(all_strategies.results) == list(ACCURACIES)
    assert all_strategies.images == 391


def test_the_figures_are_those_that_were_drawn(all_strategies):
    for name, accuracy in ACCURACIES.items():
        assert all_strategies.results[name].pooled.accuracy_7_class == pytest.approx(100 * accuracy, abs=7)


def test_the_best_is_the_first_of_the_ranking(all_strategies):
    assert all_strategies.best is all_strategies.ranking[0]
    assert all_strategies.verdict.winner == all_strategies.best.strategy == "scratch"


def test_the_majority_class_of_the_paper_is_normal(as_printed):
    assert f"{as_printed.majority_accuracy:.2f}" == f"{100 * 1341 / 3905:.2f}"


def test_classes_of_one_source_are_found(all_strategies):
    assert all_strategies.single_source == {
        "Edema": "nih", "Effusion": "nih", "Emphysema": "nih", "Fibrosis": "nih", "Pneumonia": "kermany"
    }  # fmt: skip


def test_classes_of_several_sources_are_not_single(outcome):
    frame = drawn_frame({"scratch": 0.9})
    frame["source"] = ["a" if i % 2 else "b" for i in range(len(frame))]

    found = outcome(frame)

    assert found.single_source == {}
    assert all(found.counts[label].keys() == {"a", "b"} for label in CLASSES)
