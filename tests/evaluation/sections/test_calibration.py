import json

import numpy as np
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.report_inputs import load_report_inputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.calibration import compute, render
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import drawn_frame, image_frame, write_study
from tests.evaluation.statistics.drawn_predictions import overconfident


def simulated_frame(temperature: float, strategy: str = "scratch", images: int = 1500):
    """Return images of a network that multiplies calibrated logits by `temperature`."""
    label, probability = overconfident(images, temperature)
    order = np.argsort(label, kind="stable")
    frame = image_frame({c: int((label == i).sum()) for i, c in enumerate(CLASSES)}, 3).assign(strategy=strategy)
    frame[list(PROBABILITY_COLUMNS)] = probability[order]
    return frame


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return load_report_inputs(write_study(tmp_path_factory.mktemp("sure"), simulated_frame(2.0), synthetic=True))


@pytest.fixture(scope="module")
def results(inputs):
    return compute(inputs)


@pytest.fixture(scope="module")
def made(inputs, results):
    return render(inputs, results)


def test_the_finding_has_the_planted_temperature_and_both_errors(results):
    finding = results.finding

    assert finding.strategy == "scratch"
    assert finding.temperature == pytest.approx(2.0, rel=0.05)
    assert finding.ece_after.high < finding.ece_before.low


def test_an_overconfident_network_is_called_overconfident(made):
    assert made.lead[0].startswith("Training from scratch is overconfident: temperature ")
    assert "but never which class is the likeliest" in made.lead[1]


@pytest.mark.parametrize(
    ("temperature", "words"), [(0.5, "is underconfident"), (1.0, "is neither over- nor underconfident")]
)
def test_underconfident_and_calibrated_networks_are_named(tmp_path, temperature, words):
    inputs = load_report_inputs(write_study(tmp_path, simulated_frame(temperature)))

    assert words in render(inputs, compute(inputs)).lead[0]


def test_every_strategy_has_a_row_before_and_after_scaling(made):
    before, after = made.tables[0].rows

    assert (before.labels[1], after.labels[1]) == ("as trained", "after scaling")
    assert before.values[0] is None
    assert after.values[0].startswith("2.0") or after.values[0].startswith("1.9")
    assert after.values[1].value < before.values[1].value
    assert [row.labels for row in made.tables[1].rows] == [before.labels, after.labels]
    assert len(made.tables[1].rows[0].values) == len(made.tables[1].columns)


def test_operating_points_are_compared_with_the_likeliest_class(inputs, made):
    without, *points = made.tables[2].rows

    assert without.values[1:3] == (inputs.results.best.pooled.sensitivity, inputs.results.best.pooled.specificity)
    assert [row.labels[0] for row in points] == [
        "90\N{NO-BREAK SPACE}%",
        "95\N{NO-BREAK SPACE}%",
        "99\N{NO-BREAK SPACE}%",
    ]
    assert points[0].values[2].value > points[2].values[2].value


def test_the_thresholds_of_each_fold_and_for_use_are_in_a_table(made, results):
    rows = made.folded[0].rows

    assert [row.labels[0] for row in rows[:-1]] == [f"fold {k}, chosen on the others" for k in range(3)]
    assert rows[-1].values[1] == f"{results.points[0].for_use.threshold:.4f}"


def test_there_are_reliability_diagrams_of_the_likeliest_class_and_of_covid19(made, results):
    likeliest, covid = made.pictures

    assert (likeliest.name, covid.name) == ("reliability-likeliest-class", "reliability-covid19")
    assert likeliest.alt.startswith("Synthetic images. Reliability diagram")
    assert likeliest.alt.count(" observed of ") == len(results.before.top) + len(results.after.top)


def test_the_values_are_plain_json(made):
    tree = json.loads(json.dumps(plain(made.values), allow_nan=False))

    assert len(tree["strategies"]["scratch"]["temperatures"]) == 3
    assert [point["target"] for point in tree["operating_points"]] == [0.9, 0.95, 0.99]
    assert 0 < tree["operating_points"][0]["for_use"]["threshold"] < 1


def test_a_study_without_covid19_images_has_no_operating_point(tmp_path):
    frame = drawn_frame({"scratch": 0.9})
    inputs = load_report_inputs(write_study(tmp_path, frame[frame["label"] != "Covid19"]))
    made = render(inputs, compute(inputs))

    assert "no operating point" in made.lead[2]
    assert made.tables[2].rows[1].values[0] == "–"
