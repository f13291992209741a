import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, f1_score, roc_auc_score

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.metrics import MEASURES, evaluate
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT, strategy_measures
from cxr_platform.evaluation.statistics.resampling import Bootstrap
from tests.evaluation.statistics.made_up import drawn_labels, guesses, predictions_of


def measured(label: np.ndarray, probability: np.ndarray):
    predictions = predictions_of(label, {"scratch": probability})
    return predictions, strategy_measures(predictions, "scratch", Bootstrap(predictions.group_id, replicates=300))


@pytest.fixture(scope="module")
def drawn():
    label = drawn_labels(300)
    return measured(label, guesses(label))


def test_every_measure_is_there_pooled_and_over_folds(drawn):
    _, found = drawn

    assert found.pooled.keys() == found.spread.keys() == FIGURES_OF_MERIT.keys()


def test_the_papers_measures_are_those_of_the_rest_of_the_report(drawn):
    predictions, found = drawn
    reported = evaluate(predictions, "scratch")

    for measure in MEASURES:
        assert found.pooled[measure].value == pytest.approx(reported.pooled[measure])
        assert found.spread[measure].mean == pytest.approx(reported.spread[measure].mean)
        assert found.spread[measure].sd == pytest.approx(reported.spread[measure].sd)


def test_the_others_are_scikit_learns(drawn):
    predictions, found = drawn
    label, probability = predictions.label, predictions.probability["scratch"]
    predicted, covid = probability.argmax(axis=1), probability[:, 0]

    theirs = {
        "balanced_accuracy": 100 * balanced_accuracy_score(label, predicted),
        "macro_f1": f1_score(label, predicted, average="macro"),
        "roc_auc": roc_auc_score(label == 0, covid),
        "average_precision": average_precision_score(label == 0, covid),
        "brier": brier_score_loss(label, probability, labels=range(7), scale_by_half=False),
    }
    assert {name: found.pooled[name].value for name in theirs} == pytest.approx(theirs, abs=1e-9)


def test_every_interval_holds_its_figure(drawn):
    _, found = drawn

    for measure in FIGURES_OF_MERIT:
        pooled = found.pooled[measure]
        assert pooled.low < pooled.value < pooled.high, measure
        assert pooled.ratio == found.spread[measure].ratio == FIGURES_OF_MERIT[measure].ratio


def test_predictive_values_at_the_studys_own_share_are_those_that_counting_gives(drawn):
    predictions, found = drawn
    said, ill = predictions.probability["scratch"].argmax(axis=1) == 0, predictions.label == 0
    own = found.predictive[-1]

    assert own.own
    assert own.prevalence == pytest.approx(ill.mean())
    assert own.ppv.value == pytest.approx(100 * ill[said].mean())
    assert own.npv.value == pytest.approx(100 * (~ill)[~said].mean())
    assert own.ppv.low < own.ppv.value < own.ppv.high


def test_the_rarer_the_disease_the_less_a_call_is_worth(drawn):
    stated = drawn[1].predictive[:-1]

    assert [p.prevalence for p in stated] == [0.01, 0.05, 0.2]
    assert stated[0].ppv.value < stated[1].ppv.value < stated[2].ppv.value
    assert stated[0].npv.value > stated[1].npv.value > stated[2].npv.value


def test_without_covid19_images_its_figures_are_undefined_and_the_others_are_not():
    label = 1 + drawn_labels(60) % 6
    _, found = measured(label, guesses(label))

    for measure in ("sensitivity", "roc_auc", "average_precision"):
        assert found.pooled[measure] == Interval(None, ratio=FIGURES_OF_MERIT[measure].ratio)
        assert found.spread[measure].mean is None
    assert found.pooled["macro_f1"].low is not None
    assert all(p.ppv.value is None for p in found.predictive)


def test_predictive_values_of_a_strategy_without_a_false_call_are_as_uncertain_as_its_rates():
    label = drawn_labels(140)
    _, found = measured(label, 0.9 * np.eye(7)[label] + 0.1 / 7)
    sensitivity, specificity = found.pooled["sensitivity"].low / 100, found.pooled["specificity"].low / 100
    rare = found.predictive[0]

    true, false = 0.01 * sensitivity, 0.99 * (1 - specificity)
    assert (rare.ppv.value, rare.ppv.high) == (100, 100)
    assert rare.ppv.low == pytest.approx(100 * true / (true + false))
    assert rare.ppv.low < 20
    assert rare.npv.low < rare.npv.value == 100


def test_a_negative_call_after_two_covid19_images_found_of_two_is_not_certain():
    label = np.array([0, 0] + [6] * 40)
    said = np.where(np.arange(42) % 7 == 6, 0, label)
    predictions = predictions_of(label, {"scratch": 0.9 * np.eye(7)[said] + 0.1 / 7}, group=np.arange(42))
    found = strategy_measures(predictions, "scratch", Bootstrap(predictions.group_id, replicates=300))

    assert found.pooled["sensitivity"].value == 100
    assert found.predictive[2].npv.value == 100
    assert found.predictive[2].npv.low < 85


def test_a_perfect_strategy_gets_bounds_for_rates_and_none_for_areas():
    label = drawn_labels(140)
    _, found = measured(label, 0.9 * np.eye(7)[label] + 0.1 / 7)

    assert found.pooled["accuracy_7_class"].value == 100
    assert 90 < found.pooled["accuracy_7_class"].low < 100
    assert found.pooled["sensitivity"].low < found.pooled["specificity"].low < 100
    assert found.pooled["roc_auc"] == Interval(pytest.approx(1.0), ratio=True)
