from dataclasses import replace

import pytest

from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT
from cxr_platform.registry.bundle import Figure
from cxr_platform.registry.comparison import TITLES, compare, shown
from tests.registry.builders import make_bundle


def with_point(version, **changes):
    """A bundle of the usual figures but for `changes` of its operating point."""
    return make_bundle(version, operating_point=replace(make_bundle().operating_point, **changes))


def test_every_figure_of_the_report_has_a_title_that_begins_as_there():
    for name, measure in FIGURES_OF_MERIT.items():
        assert TITLES[name].startswith(measure.title)


def test_the_first_champion_has_nothing_to_be_compared_with():
    comparison = compare(make_bundle(), None)

    assert not comparison.worse
    assert "first champion" in comparison.verdict
    assert all(line.present is None for line in comparison.lines)


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
def test_worse_is_lower_by_more_than_rounding_in_either_figure(accuracy, sensitivity, worse):
    comparison = compare(make_bundle("v2", accuracy, sensitivity), make_bundle("v1", 80.0, 90.0))

    assert comparison.worse is worse
    assert bool(comparison.reasons) is worse
    assert "v1" in comparison.verdict


@pytest.mark.parametrize(("specificity", "worse"), [(5.0, True), (95.94, True), (95.95, False), (99.0, False)])
def test_calling_more_healthy_images_ill_is_worse_where_both_aim_at_the_same_sensitivity(specificity, worse):
    comparison = compare(with_point("v2", specificity=Figure(specificity)), make_bundle("v1"))

    assert comparison.worse is worse
    assert ("specificity at the threshold" in " ".join(comparison.reasons)) is worse


def test_specificity_does_not_decide_between_different_aims():
    new = with_point("v2", specificity=Figure(60.0), sensitivity=Figure(97.0), target_sensitivity=0.99)
    comparison = compare(new, make_bundle("v1"))

    assert not comparison.worse
    assert "specificity" not in comparison.verdict
    assert "specificity does not decide" in " ".join(comparison.notes)


def test_a_reason_holds_both_figures():
    (reason,) = compare(make_bundle("v2", 70.0), make_bundle("v1", 80.0)).reasons
    assert reason == "7-class accuracy 70.00 (68.00 to 72.00) against 80.00 (78.00 to 82.00)"


def test_figures_by_the_likeliest_class_do_not_refuse():
    new = make_bundle("v2")
    new = replace(new, metrics=new.metrics | {"specificity": Figure(10.0), "roc_auc": Figure(0.5)})

    assert not compare(new, make_bundle("v1")).worse


def test_an_undefined_figure_is_worse_than_a_defined_one_and_no_worse_than_another():
    point = make_bundle().operating_point
    undefined = make_bundle("v2", operating_point=replace(point, sensitivity=Figure(None)))

    assert compare(undefined, make_bundle()).worse
    assert not compare(undefined, undefined).worse
    assert not compare(make_bundle(), undefined).worse


def test_phantoms_do_not_replace_real_images():
    synthetic, real = make_bundle("v2", 99.0, 99.0, synthetic=True), make_bundle("v1")

    assert "synthetic" in compare(synthetic, real).reasons[0]
    assert not compare(synthetic, synthetic).worse
    assert not compare(make_bundle("v2", 85.0), make_bundle("v1", synthetic=True)).worse


def test_what_makes_figures_hard_to_compare_is_said():
    present = make_bundle("v1")
    new = make_bundle(
        "v2",
        strategy="fine-tuning-3",
        study=replace(present.study, manifest_hash="cd" * 32, protocol="paper"),
        operating_point=replace(present.operating_point, target_sensitivity=0.9),
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


def test_a_version_that_leaves_more_images_undecided_is_not_worse_but_it_is_said():
    decided = replace(make_bundle().operating_point.decided, undecided=Figure(40.0))
    comparison = compare(with_point("v2", decided=decided), make_bundle("v1"))

    assert not comparison.worse
    assert comparison.notes == ("It leaves more images undecided, 40.00 against 5.00 (4.00 to 6.00) %.",)
    assert compare(make_bundle("v1"), with_point("v2", decided=decided)).notes == ()


def test_a_metric_that_only_one_has_is_shown_with_a_dash():
    new = replace(make_bundle("v2"), metrics=make_bundle().metrics | {"macro_f1": Figure(0.8)})
    (line,) = (line for line in compare(new, make_bundle()).lines if line.name == "macro_f1")

    assert (shown(line.new, line.ratio), shown(line.present, line.ratio)) == ("0.800", "–")
