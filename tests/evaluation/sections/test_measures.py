import json
import re

import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.report_inputs import ReportInputs, load_report_inputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.measures import compute, render
from cxr_platform.evaluation.table import to_markdown
from tests.evaluation.builders import drawn_frame, printed_frame, write_study


def made(folder, frame, **options) -> tuple[ReportInputs, tuple, object]:
    inputs = load_report_inputs(write_study(folder, frame, **options))
    found = compute(inputs)
    return inputs, found, render(inputs, found)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The paper's own predictions, image for image, in groups of two."""
    return made(tmp_path_factory.mktemp("printed"), printed_frame())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    frame = drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9})
    return made(tmp_path_factory.mktemp("small"), frame, synthetic=True)


def cells(table, strategy, measure):
    return next(row.values for row in table.rows if row.labels == (strategy, measure))


def test_the_winner_comes_first_and_the_others_are_folded(small):
    _, found, made_of = small

    assert [m.strategy for m in found] == ["scratch", "off-the-shelf"]
    assert [t.name for t in made_of.tables] == ["intervals-winner", "predictive-values-winner"]
    assert {row.labels[0] for row in made_of.tables[0].rows} == {"Training from scratch"}
    assert {row.labels[0] for row in made_of.folded[0].rows} == {"Training from scratch", "Off-the-shelf features"}


def test_the_papers_figure_stands_beside_with_the_difference_and_its_interval(printed):
    pooled, spread, paper, gap = cells(printed[2].tables[0], "Training from scratch", "Covid19 sensitivity (%)")

    assert paper == 97.36
    assert pooled.value == pytest.approx(97.36, abs=0.01)
    assert spread.folds == 10
    assert gap == Interval(*(pytest.approx(v - paper) for v in (pooled.value, pooled.low, pooled.high)), signed=True)
    assert not gap.excludes_zero


def test_where_the_paper_prints_nothing_there_is_a_dash(printed):
    *_, paper, gap = cells(printed[2].tables[0], "Training from scratch", "Macro F1")

    assert (paper, gap) == (None, None)


def test_ratios_are_shown_with_three_decimals_over_folds_too(printed):
    line = next(line for line in to_markdown(printed[2].tables[0]).splitlines() if "Macro F1" in line)

    figures = re.findall(r"0\.(\d+)", line)

    assert len(figures) == 5  # the figure, its two bounds, mean and deviation over folds
    assert {len(decimals) for decimals in figures} == {3}


def test_the_text_says_what_was_resampled_and_what_is_not_covered(small):
    inputs, _, made_of = small
    text = " ".join(made_of.lead)

    assert f"{len(set(inputs.predictions.group_id)):,} groups" in text
    assert "2,000 bootstrap replicates (seed 2020)" in text
    assert "training again gives another network" in text
    assert "another hospital" in text


def test_a_call_is_worth_less_where_the_disease_is_rare_and_the_premise_is_said(small):
    table = small[2].tables[1]
    prevalences = [row.labels[1] for row in table.rows]

    assert prevalences[:3] == ["1 %", "5 %", "20 %"]
    assert prevalences[3].endswith("%, the study's own share")
    assert table.rows[0].values[0].value < table.rows[2].values[0].value
    assert "provided that sensitivity and specificity were the same there" in small[2].lead[2]


def test_synthetic_images_are_stamped_on_tables_and_picture(small):
    made_of = small[2]

    assert all(table.synthetic for table in (*made_of.tables, *made_of.folded))
    assert made_of.pictures[0].alt.startswith("Synthetic images.")


def test_the_picture_is_told_in_words(printed):
    alt = printed[2].pictures[0].alt

    assert "Training from scratch 87.66 (" in alt
    assert "paper 87.66" in alt
    assert "Fine-tuning 7 not run, paper 43.43" in alt


def test_the_values_are_plain_json(printed):
    tree = json.loads(json.dumps(plain(printed[2].values), allow_nan=False))

    assert tree["scratch"]["pooled"]["roc_auc"]["low"] < tree["scratch"]["pooled"]["roc_auc"]["high"]
    assert tree["scratch"]["predictive"][0]["prevalence"] == 0.01


def test_one_strategy_and_no_covid19_image_give_dashes_and_no_warning(tmp_path):
    frame = drawn_frame({"scratch": 0.9})
    made_of = made(tmp_path, frame[frame["label"] != "Covid19"])[2]

    assert made_of.folded == ()
    assert cells(made_of.tables[0], "Training from scratch", "Covid19 ROC AUC")[0].value is None
    assert made_of.lead[2].startswith("Predictive values are undefined without both Covid19 images and others")
