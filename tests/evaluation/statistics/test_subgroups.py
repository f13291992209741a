import numpy as np
import pytest

from cxr_platform.evaluation.findings import SMALL
from cxr_platform.evaluation.statistics.subgroups import (
    SubgroupRates,
    age_bands,
    divisions,
    lower_than_overall,
    subgroups,
)
from tests.evaluation.planted import STRATEGY, predictions, report_inputs

N = 400


@pytest.fixture(scope="module")
def planted():
    """Right for nine of ten men and five of ten women, whatever the source; two images of patients of 70."""
    sex = np.array(["M", "F"])[np.arange(N) % 2]
    right = np.where(sex == "M", np.arange(N) % 20 >= 2, np.arange(N) % 20 >= 10)
    label = np.array(["Covid19", "Normal"])[np.arange(N) // 2 % 2]
    other = np.where(label == "Covid19", "Normal", "Covid19")
    source = np.array(["north", "south"])[np.arange(N) // 4 % 2]
    facts = {"sex": sex, "age": [70.0] * 2 + [30.0] * (N - 2), "view": ["PA"] * N}
    return report_inputs(predictions(source, label, np.where(right, label, other)), facts)


@pytest.fixture(scope="module")
def judged(planted):
    return SubgroupRates(planted.predictions, STRATEGY, seed=1)


@pytest.fixture(scope="module")
def parts(planted, judged):
    return {(s.by, s.name): s for s in subgroups(judged, planted.images.facts)}


def test_a_part_in_which_accuracy_is_lower_is_reported(judged, parts):
    lower = lower_than_overall(judged.overall().accuracy, parts.values())

    assert [(s.by, s.name) for s in lower] == [("sex", "female")]
    assert parts["sex", "female"].accuracy.interval.value == pytest.approx(50)
    assert parts["sex", "male"].accuracy.interval.value == pytest.approx(90)


def test_rates_are_over_the_images_of_the_part_alone(parts):
    women = parts["sex", "female"]

    assert women.images == N // 2
    assert women.sensitivity.images == women.specificity.images == N // 4
    assert women.sensitivity.interval.low < 50 < women.specificity.interval.high


def test_a_rate_over_few_images_is_small_and_never_called_lower():
    source = ["few"] * (SMALL - 1) + ["many"] * 200
    judged = SubgroupRates(
        predictions(source, ["Normal"] * len(source), ["Edema"] * (SMALL - 1) + ["Normal"] * 200), STRATEGY
    )
    few, many = subgroups(judged, None)

    assert (few.accuracy.small, many.accuracy.small) == (True, False)
    assert few.accuracy.interval.high < judged.overall().accuracy.interval.value
    assert lower_than_overall(judged.overall().accuracy, [few, many]) == []


def test_smallness_is_judged_by_the_images_of_each_rate():
    label = ["Covid19"] * (SMALL - 1) + ["Normal"] * SMALL
    part = SubgroupRates(predictions(["a"] * len(label), label), STRATEGY).overall()

    assert not part.accuracy.small
    assert part.sensitivity.small
    assert not part.specificity.small


def test_a_property_shared_by_all_images_has_no_subgroups(parts):
    assert {by for by, _ in parts} == {"source", "sex", "age"}


def test_without_a_manifest_only_the_source_divides(judged):
    assert {s.by for s in subgroups(judged, None)} == {"source"}


def test_a_rate_over_no_image_is_undefined():
    part = SubgroupRates(predictions(["a"] * 30, ["Normal"] * 30), STRATEGY).overall()

    assert part.sensitivity.images == 0
    assert part.sensitivity.interval.value is None
    assert part.specificity.interval.value == 100


def test_ages_fall_into_the_band_that_starts_with_them():
    years = np.array([0, 17.9, 18, 39, 40, 64.5, 65, 101, np.nan])

    assert age_bands(years).tolist() == [
        "0–17", "0–17", "18–39", "18–39", "40–64", "40–64", "65+", "65+", "unknown",
    ]  # fmt: skip


def test_missing_facts_are_unknown_and_come_last():
    scored = predictions(["a"] * 3, ["Normal"] * 3)
    facts = {"view": ["PA", None, "AP"], "sex": ["F", None, "M"], "age": [50, None, 20]}
    parts = divisions(scored, report_inputs(scored, facts).images.facts)

    assert list(parts["view"]) == ["AP", "PA", "unknown"]
    assert list(parts["sex"]) == ["male", "female", "unknown"]
    assert list(parts["age"]) == ["18–39", "40–64", "unknown"]
    assert all(members.tolist()[1] for by in ("view", "sex", "age") for members in [parts[by]["unknown"]])


def test_facts_are_taken_by_image_and_not_by_position():
    scored = predictions(["a"] * 3, ["Normal"] * 3)
    facts = report_inputs(scored, {"sex": ["F", "M", "M"]}).images.facts.iloc[::-1]

    assert divisions(scored, facts)["sex"]["female"].tolist() == [True, False, False]


def test_a_subgroup_has_its_most_frequent_source_and_class():
    scored = predictions(["a", "a", "a", "b"], ["Normal", "Normal", "Covid19", "Normal"])
    part = SubgroupRates(scored, STRATEGY).overall()

    assert part.top_source == ("a", 75.0)
    assert part.top_class == ("Normal", 75.0)
    assert part.only_source is None
    assert SubgroupRates(predictions(["a"], ["Normal"]), STRATEGY).overall().only_source == "a"


def test_recall_of_each_class_from_each_source_that_has_it():
    scored = predictions(["b", "a", "a", "b"], ["Normal", "Normal", "Edema", "Normal"], ["Edema"] * 3 + ["Normal"])
    recalls = [
        (r.source, r.label, r.rate.images, r.rate.interval.value) for r in SubgroupRates(scored, STRATEGY).recalls()
    ]

    assert recalls == [("a", "Edema", 1, 100.0), ("a", "Normal", 1, 0.0), ("b", "Normal", 2, 50.0)]
