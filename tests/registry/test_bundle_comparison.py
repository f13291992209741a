import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT
from cxr_platform.registry.bundle_comparison import TITLES, compare, interval_text
from tests.registry.builders import POINT, RATES, STUDY, changed, make_bundle


def with_point(version, **changes):
    """Return the usual bundle with `changes` of its operating point."""
    return make_bundle(version, operating_point=changed(POINT, **changes))


def test_every_measure_of_the_report_has_a_title_that_starts_with_its_own():
    for name, measure in FIGURES_OF_MERIT.items():
        assert TITLES[name].startswith(measure.title)


def test_the_first_champion_is_compared_with_nothing():
    comparison = compare(make_bundle(), None)

    assert not comparison.worse
    assert "first champion" in comparison.verdict
    assert all(metric.present is None for metric in comparison.metrics)


@pytest.mark.parametrize(
    ("accuracy", "sensitivity", "worse"),
    [
        (80.0, 90.0, False),
        (85.0, 95.0, False),
        (79.95, 89.95, False),  # within rounding
        (79.94, 90.0, True),
        (80.0, 89.94, True),
        (95.0, 80.0, True),  # better in one is not enough
        (60.0, 99.0, True),
    ],
)
def test_a_version_is_worse_if_accuracy_or_sensitivity_is_lower_by_more_than_rounding(accuracy, sensitivity, worse):
    comparison = compare(make_bundle("v2", accuracy, sensitivity), make_bundle("v1", 80.0, 90.0))

    assert comparison.worse is worse
    assert bool(comparison.reasons) is worse
    assert "v1" in comparison.verdict


@pytest.mark.parametrize(("specificity", "worse"), [(5.0, True), (95.94, True), (95.95, False), (99.0, False)])
def test_a_lower_specificity_is_worse_at_the_same_target_sensitivity(specificity, worse):
    comparison = compare(with_point("v2", specificity=Interval(specificity)), make_bundle("v1"))

    assert comparison.worse is worse
    assert ("specificity at the threshold" in " ".join(comparison.reasons)) is worse


def test_specificity_does_not_decide_between_different_target_sensitivities():
    new = with_point("v2", specificity=Interval(60.0), sensitivity=Interval(97.0), target_sensitivity=0.99)
    comparison = compare(new, make_bundle("v1"))

    assert not comparison.worse
    assert "specificity" not in comparison.verdict
    assert "specificity does not decide" in " ".join(comparison.notes)


def test_a_reason_holds_both_intervals():
    (reason,) = compare(make_bundle("v2", 70.0), make_bundle("v1", 80.0)).reasons
    assert reason == "7-class accuracy 70.00 (68.00 to 72.00) against 80.00 (78.00 to 82.00)"


def test_metrics_by_the_likeliest_class_do_not_refuse_a_promotion():
    new = make_bundle("v2")
    new = changed(new, metrics=new.metrics | {"specificity": Interval(10.0), "roc_auc": Interval(0.5, ratio=True)})

    assert not compare(new, make_bundle("v1")).worse


def test_an_undefined_metric_is_worse_than_a_defined_one_but_not_than_an_undefined_one():
    undefined = with_point("v2", sensitivity=Interval(None))

    assert compare(undefined, make_bundle()).worse
    assert not compare(undefined, undefined).worse
    assert not compare(make_bundle(), undefined).worse


def test_a_model_of_phantoms_does_not_replace_one_of_real_images():
    synthetic, real = make_bundle("v2", 99.0, 99.0, synthetic=True), make_bundle("v1")

    assert "synthetic" in compare(synthetic, real).reasons[0]
    assert not compare(synthetic, synthetic).worse
    assert not compare(make_bundle("v2", 85.0), make_bundle("v1", synthetic=True)).worse


def test_notes_name_differences_that_make_metrics_hard_to_compare():
    present = make_bundle("v1")
    new = make_bundle(
        "v2",
        strategy="fine-tuning-3",
        study=changed(STUDY, manifest_hash="cd" * 32, protocol="paper"),
        operating_point=changed(POINT, target_sensitivity=0.9),
    )
    notes = compare(new, present).notes

    assert [note.split(",")[0] for note in notes] == [
        "Different manifests",
        "Different protocols",
        "Different strategies",
        "Different sensitivity targets",
    ]
    assert "different images" in notes[0]
    assert compare(present, present).notes == ()


def test_more_indeterminate_images_are_noted_but_not_worse():
    rates = changed(RATES, indeterminate=Interval(40.0))
    comparison = compare(with_point("v2", decisions=rates), make_bundle("v1"))

    assert not comparison.worse
    assert comparison.notes == ("More images are indeterminate, 40.00 against 5.00 (4.00 to 6.00) %.",)
    assert compare(make_bundle("v1"), with_point("v2", decisions=rates)).notes == ()


def test_a_metric_of_only_one_version_has_a_dash_for_the_other():
    new = changed(make_bundle("v2"), metrics=make_bundle().metrics | {"macro_f1": Interval(0.8, ratio=True)})
    (metric,) = (metric for metric in compare(new, make_bundle()).metrics if metric.name == "macro_f1")

    assert (interval_text(metric.new), interval_text(metric.present)) == ("0.800", "–")
