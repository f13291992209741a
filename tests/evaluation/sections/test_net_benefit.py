import json
from dataclasses import replace

from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.net_benefit import ABSENT, CURVE, compute, render
from tests.evaluation.planted import predictions, report_inputs


def rendered(label, answered=None, **options):
    inputs = report_inputs(predictions(["a"] * len(label), label, answered), **options)
    return render(inputs, compute(inputs))


def test_a_network_that_recognises_covid19_is_of_use():
    section = rendered(["Covid19", "Normal", "Normal", "Normal"] * 40, synthetic=True)

    assert section.lead[0].startswith("Training from scratch is better than acting on all images or on none at ")
    assert "It is 25.00\N{NO-BREAK SPACE}% here." in section.lead[2]
    assert {row.values[-1] for row in section.tables[0].rows} == {"yes"}
    assert section.pictures[0].alt.startswith("Synthetic images. Decision curve")


def test_a_network_that_guesses_is_of_no_use():
    label = ["Covid19", "Normal", "Covid19", "Normal"] * 40
    section = rendered(label, ["Covid19", "Covid19", "Normal", "Normal"] * 40)

    assert section.lead[0].startswith("At no threshold is training from scratch shown to be better")


def test_thresholds_between_which_the_network_is_of_no_use_are_not_in_the_range():
    inputs = report_inputs(predictions(["a"] * 160, ["Covid19", "Normal", "Normal", "Normal"] * 40))
    curve = [
        replace(p, gain=replace(p.gain, low=1.0 if p.threshold in (2, 3, 4, 9) else -1.0)) for p in compute(inputs)
    ]

    assert (
        "better than acting on all images or on none at 4 of 60 thresholds: 2 to 4 and 9\N{NO-BREAK SPACE}%."
        in (render(inputs, curve).lead[0])
    )


def test_without_covid19_there_is_no_curve():
    assert rendered(["Normal"] * 6).absent == ABSENT


def test_the_values_are_plain_json():
    section = rendered(["Covid19", "Normal"] * 20)
    assert len(json.loads(json.dumps(plain(section.values), allow_nan=False))["curve"]) == len(CURVE)
