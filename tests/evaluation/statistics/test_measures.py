import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    recall_score,
    roc_auc_score,
)

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.metrics import MEASURES, evaluate
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.measures import (
    FIGURES_OF_MERIT,
    MATRIX_MEASURES,
    RankedScores,
    confusion_cells,
    measures_of_matrices,
    paired_auc,
    predictive_values,
    strategy_measures,
)
from tests.evaluation.statistics.drawn_predictions import drawn_labels, guesses, predictions_of


def of_scikit_learn(label: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> list[float]:
    drawn = weights > 0
    label, predicted, weights = label[drawn], predicted[drawn], weights[drawn]
    ill, said = label == 0, predicted == 0
    return [
        100 * accuracy_score(label, predicted, sample_weight=weights),
        100 * recall_score(label, predicted, labels=np.unique(label), average="macro", sample_weight=weights),
        f1_score(label, predicted, labels=np.unique(label), average="macro", sample_weight=weights),
        100 * accuracy_score(ill, said, sample_weight=weights),
        100 * recall_score(ill, said, sample_weight=weights),
        100 * recall_score(~ill, ~said, sample_weight=weights),
    ]


@pytest.mark.parametrize("classes", [7, 4])
def test_weighted_measures_are_those_of_scikit_learn(classes):
    random = np.random.default_rng(classes)
    label = drawn_labels(200) % classes
    predicted = np.where(random.random(200) < 0.6, label, random.integers(0, 7, 200))
    weights = next(Bootstrap(np.arange(200) // 2, replicates=20).weights())
    weights[0] = 1

    ours = measures_of_matrices((weights @ confusion_cells(label, predicted)).reshape(-1, 7, 7))

    assert ours.shape == (20, len(MATRIX_MEASURES))
    assert ours == pytest.approx(np.array([of_scikit_learn(label, predicted, w) for w in weights]), abs=1e-9)


def test_balanced_accuracy_is_scikit_learns():
    label, predicted = drawn_labels(100), drawn_labels(100, seed=1)
    ours = measures_of_matrices(confusion_cells(label, predicted).sum(axis=0).reshape(1, 7, 7))

    assert ours[0, MATRIX_MEASURES.index("balanced_accuracy")] == pytest.approx(
        100 * balanced_accuracy_score(label, predicted)
    )


def test_without_images_of_a_kind_the_rate_is_undefined_and_not_0():
    no_covid = confusion_cells(np.array([1, 2]), np.array([1, 3])).sum(axis=0).reshape(1, 7, 7)
    nothing = np.zeros((1, 7, 7))

    assert np.isnan(measures_of_matrices(no_covid)[0]).tolist() == [False] * 4 + [True, False]
    assert np.isnan(measures_of_matrices(nothing)).all()


@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_areas_are_those_of_scikit_learn_with_and_without_weights(decimals):
    random = np.random.default_rng(decimals)
    positive = random.random(300) < 0.2
    scores = np.round(np.clip(random.normal(0.4 + 0.2 * positive, 0.2), 0, 1), decimals)
    weights = next(Bootstrap(np.arange(300) // 3, replicates=20).weights())
    weights[0] = 1

    ours = RankedScores(scores, positive).areas(weights)

    for column, area in enumerate((roc_auc_score, average_precision_score)):
        theirs = [area(positive, scores, sample_weight=w) for w in weights]
        assert ours[:, column] == pytest.approx(theirs, abs=1e-9)


def test_equal_scores_give_an_area_of_one_half():
    areas = RankedScores(np.full(10, 0.5), np.arange(10) < 3).areas(np.ones((1, 10)))

    assert areas.tolist() == [[0.5, pytest.approx(0.3)]]


def test_areas_without_images_of_one_side_are_undefined():
    weights = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
    areas = RankedScores(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False])).areas(weights)

    assert np.isnan(areas[:2]).all()
    assert areas[2].tolist() == [1, 1]
    assert np.isnan(RankedScores(np.ones(2), np.zeros(2, dtype=bool)).areas(np.ones((1, 2)))).all()


def test_a_good_test_for_a_rare_disease_has_a_low_ppv():
    ppv, npv = predictive_values(np.array([90.0]), np.array([90.0]), 0.01)

    assert ppv[0] == pytest.approx(100 * 0.009 / (0.009 + 0.099))
    assert npv[0] == pytest.approx(100 * 0.891 / (0.891 + 0.001))


def test_at_the_share_of_the_images_themselves_they_are_what_counting_gives():
    tp, fn, fp, tn = 30, 10, 20, 140
    ppv, npv = predictive_values(np.array([100 * tp / (tp + fn)]), np.array([100 * tn / (tn + fp)]), 40 / 200)

    assert (ppv[0], npv[0]) == pytest.approx((100 * tp / (tp + fp), 100 * tn / (tn + fn)))


def test_predictive_values_without_calls_are_undefined():
    ppv, npv = predictive_values(np.array([0.0, 100.0]), np.array([100.0, 0.0]), 0.05)

    assert np.isnan(ppv).tolist() == [True, False]
    assert np.isnan(npv).tolist() == [False, True]


def measured(label: np.ndarray, probability: np.ndarray):
    predictions = predictions_of(label, {"scratch": probability})
    return predictions, strategy_measures(predictions, "scratch", Bootstrap(predictions.group_id, replicates=300))


@pytest.fixture(scope="module")
def drawn():
    label = drawn_labels(300)
    return measured(label, guesses(label))


def test_every_measure_is_there_pooled_and_over_folds(drawn):
    _, measures = drawn

    assert measures.pooled.keys() == measures.spread.keys() == FIGURES_OF_MERIT.keys()


def test_the_papers_measures_are_those_of_the_rest_of_the_report(drawn):
    predictions, measures = drawn
    reported = evaluate(predictions, "scratch")

    for measure in MEASURES:
        assert measures.pooled[measure].value == pytest.approx(reported.pooled[measure])
        assert measures.spread[measure].mean == pytest.approx(reported.spread[measure].mean)
        assert measures.spread[measure].sd == pytest.approx(reported.spread[measure].sd)


def test_the_others_are_scikit_learns(drawn):
    predictions, measures = drawn
    label, probability = predictions.label, predictions.probability["scratch"]
    predicted, covid = probability.argmax(axis=1), probability[:, 0]

    theirs = {
        "balanced_accuracy": 100 * balanced_accuracy_score(label, predicted),
        "macro_f1": f1_score(label, predicted, average="macro"),
        "roc_auc": roc_auc_score(label == 0, covid),
        "average_precision": average_precision_score(label == 0, covid),
        "brier": brier_score_loss(label, probability, labels=range(7), scale_by_half=False),
    }
    assert {name: measures.pooled[name].value for name in theirs} == pytest.approx(theirs, abs=1e-9)


def test_every_interval_holds_its_figure(drawn):
    _, measures = drawn

    for measure in FIGURES_OF_MERIT:
        pooled = measures.pooled[measure]
        assert pooled.low < pooled.value < pooled.high, measure
        assert pooled.ratio == measures.spread[measure].ratio == FIGURES_OF_MERIT[measure].ratio


def test_predictive_values_at_the_studys_own_share_are_those_that_counting_gives(drawn):
    predictions, measures = drawn
    said, ill = predictions.probability["scratch"].argmax(axis=1) == 0, predictions.label == 0
    own = measures.predictive[-1]

    assert own.own
    assert own.prevalence == pytest.approx(ill.mean())
    assert own.ppv.value == pytest.approx(100 * ill[said].mean())
    assert own.npv.value == pytest.approx(100 * (~ill)[~said].mean())
    assert own.ppv.low < own.ppv.value < own.ppv.high


def test_ppv_falls_with_prevalence(drawn):
    stated = drawn[1].predictive[:-1]

    assert [p.prevalence for p in stated] == [0.01, 0.05, 0.2]
    assert stated[0].ppv.value < stated[1].ppv.value < stated[2].ppv.value
    assert stated[0].npv.value > stated[1].npv.value > stated[2].npv.value


def test_without_covid19_images_its_figures_are_undefined_and_the_others_are_not():
    label = 1 + drawn_labels(60) % 6
    _, measures = measured(label, guesses(label))

    for measure in ("sensitivity", "roc_auc", "average_precision"):
        assert measures.pooled[measure] == Interval(None, ratio=FIGURES_OF_MERIT[measure].ratio)
        assert measures.spread[measure].mean is None
    assert measures.pooled["macro_f1"].low is not None
    assert all(p.ppv.value is None for p in measures.predictive)


def test_predictive_values_of_a_strategy_without_a_false_call_are_as_uncertain_as_its_rates():
    label = drawn_labels(140)
    _, measures = measured(label, 0.9 * np.eye(7)[label] + 0.1 / 7)
    sensitivity, specificity = measures.pooled["sensitivity"].low / 100, measures.pooled["specificity"].low / 100
    rare = measures.predictive[0]

    true, false = 0.01 * sensitivity, 0.99 * (1 - specificity)
    assert (rare.ppv.value, rare.ppv.high) == (100, 100)
    assert rare.ppv.low == pytest.approx(100 * true / (true + false))
    assert rare.ppv.low < 20
    assert rare.npv.low < rare.npv.value == 100


def test_a_negative_call_after_two_covid19_images_called_of_two_is_not_certain():
    label = np.array([0, 0] + [6] * 40)
    said = np.where(np.arange(42) % 7 == 6, 0, label)
    predictions = predictions_of(label, {"scratch": 0.9 * np.eye(7)[said] + 0.1 / 7}, group=np.arange(42))
    measures = strategy_measures(predictions, "scratch", Bootstrap(predictions.group_id, replicates=300))

    assert measures.pooled["sensitivity"].value == 100
    assert measures.predictive[2].npv.value == 100
    assert measures.predictive[2].npv.low < 85


def test_a_perfect_strategy_gets_bounds_for_rates_and_none_for_areas():
    label = drawn_labels(140)
    _, measures = measured(label, 0.9 * np.eye(7)[label] + 0.1 / 7)

    assert measures.pooled["accuracy_7_class"].value == 100
    assert 90 < measures.pooled["accuracy_7_class"].low < 100
    assert measures.pooled["sensitivity"].low < measures.pooled["specificity"].low < 100
    assert measures.pooled["roc_auc"] == Interval(pytest.approx(1.0), ratio=True)


def test_pairs_of_different_sources_do_not_count():
    random = np.random.default_rng(0)
    positive, stratum = random.random(300) < 0.4, np.array(["a", "b"])[random.integers(0, 2, 300)]
    scores = np.round(random.random(300) + 0.3 * positive + 5 * (stratum == "b"), 1)
    area = paired_auc(scores, positive, ~positive, stratum, Bootstrap(np.arange(300)))

    parts = {s: (stratum == s, (positive & (stratum == s)).sum() * (~positive & (stratum == s)).sum()) for s in "ab"}
    expected = sum(roc_auc_score(positive[rows], scores[rows]) * pairs for rows, pairs in parts.values())
    assert area.value == pytest.approx(expected / sum(pairs for _, pairs in parts.values()))
    assert area.low < area.value < area.high


def test_an_auc_of_one_has_a_bound_by_the_patients_of_the_side_with_fewer():
    positive, group = np.arange(60) < 20, np.concatenate([np.arange(20) // 4, np.arange(20, 60)])
    area = paired_auc(1.0 * positive, positive, ~positive, np.zeros(60), Bootstrap(group))
    assert (area.value, area.low, area.high) == (1, pytest.approx(0.025 ** (1 / 5)), 1)
