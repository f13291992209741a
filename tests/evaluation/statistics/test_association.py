import numpy as np
import pytest

from cxr_platform.evaluation.metrics import compute_metrics
from cxr_platform.evaluation.statistics.association import (
    count_table,
    cramers_v,
    single_source,
    source_rule_matrix,
    source_shares,
    sources_of,
)
from cxr_platform.labels import CLASSES

BALANCED = {label: {"north": 30, "south": 30} for label in CLASSES}
CONFOUNDED = {label: {f"source-{label}": 25} for label in CLASSES}


def test_balanced_sources_are_not_associated_with_the_class():
    assert cramers_v(BALANCED) == pytest.approx(0, abs=1e-9)
    assert single_source(BALANCED) == {}


def test_sources_drawn_at_random_are_hardly_associated():
    draws = np.random.default_rng(5).binomial(600, 0.5, len(CLASSES))
    counts = {label: {"north": int(n), "south": 600 - int(n)} for label, n in zip(CLASSES, draws, strict=True)}

    assert cramers_v(counts) < 0.08


def test_a_source_for_each_class_is_a_full_association():
    assert cramers_v(CONFOUNDED) == pytest.approx(1)
    assert single_source(CONFOUNDED) == {label: f"source-{label}" for label in CLASSES}


def test_cramers_v_is_that_of_its_definition():
    counts = {"Covid19": {"a": 40, "b": 10}, "Normal": {"a": 20, "b": 30}}
    table = np.array([[40, 10], [20, 30]])
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    chi_squared = ((table - expected) ** 2 / expected).sum()

    phi_squared = chi_squared / 100 - 1 / 99
    assert cramers_v(counts) == pytest.approx(np.sqrt(phi_squared / (2 - 1 / 99 - 1)))


def test_few_images_of_random_sources_have_no_association():
    random = np.random.default_rng(1)
    values = []
    for _ in range(50):
        drawn = random.integers(0, 3, (7, 10))
        counts = {c: {str(s): int((row == s).sum()) for s in range(3)} for c, row in zip(CLASSES, drawn, strict=True)}
        values.append(cramers_v(counts))
    assert np.mean(values) < 0.15


def test_with_one_source_or_one_class_there_is_nothing_to_associate():
    assert cramers_v({label: {"only": 10} for label in CLASSES}) is None
    assert cramers_v({"Normal": {"a": 10, "b": 5}}) is None
    assert cramers_v({label: {} for label in CLASSES}) is None


def test_sources_stand_by_number_of_images_and_then_by_name():
    counts = {"Covid19": {"small": 2, "b": 5}, "Normal": {"a": 5, "none": 0}}

    assert sources_of(counts) == ["a", "b", "small"]
    assert count_table(counts)[CLASSES.index("Covid19")].tolist() == [0, 5, 2]


def test_shares_are_of_the_class_and_undefined_without_images():
    shares = source_shares({"Covid19": {"a": 3, "b": 1}, "Normal": {"a": 2}})

    assert shares["Covid19"] == {"a": 75.0, "b": 25.0}
    assert shares["Normal"] == {"a": 100.0, "b": 0.0}
    assert shares["Edema"] == {"a": None, "b": None}


def test_the_rule_from_the_source_is_perfect_where_each_class_has_its_own_and_chance_where_they_are_balanced():
    assert compute_metrics(source_rule_matrix(CONFOUNDED)).accuracy_7_class == 100
    assert compute_metrics(source_rule_matrix(BALANCED)).accuracy_7_class == pytest.approx(100 / 7)


def test_the_rule_answers_the_most_frequent_class_of_each_source():
    counts = {"Covid19": {"a": 8, "b": 1}, "Normal": {"a": 2, "b": 9}}
    rule = compute_metrics(source_rule_matrix(counts))

    assert rule.accuracy_7_class == pytest.approx(100 * 17 / 20)
    assert rule.sensitivity == pytest.approx(100 * 8 / 9)
    assert rule.specificity == pytest.approx(100 * 9 / 11)
