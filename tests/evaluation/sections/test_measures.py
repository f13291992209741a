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
    measures = compute(inputs)
    return inputs, measures, render(inputs, measures)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The paper's confusion matrices as predictions, in groups of two images."""
    return made(tmp_path_factory.mktemp("printed"), printed_frame())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    frame = drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9})
    return made(tmp_path_factory.mktemp("small"), frame, synthetic=True)


def cells(table, strategy, measure):
    return next(row.values for row in table.rows if row.labels == (strategy, measure))


def test_the_winner_comes_first_and_the_others_are_folded(small):
    _, measures, section = small

    assert [m.strategy for m in measures] == ["scratch", "off-the-shelf"]
    assert [t.name for t in section.tables] == ["intervals-winner", "predictive-values-winner"]
    assert {row.labels[0] for row in section.tables[0].rows} == {"Training from scratch"}
    assert {row.labels[0] for row in section.folded[0].rows} == {"Training from scratch", "Off-the-shelf features"}


def test_the_table_has_the_papers_figure_and_the_difference_with_its_interval(printed):
    pooled, spread, paper, gap = cells(printed[2].tables[0], "Training from scratch", "Covid19 sensitivity (%)")

    assert paper == 97.36
    assert pooled.value == pytest.approx(97.36, abs=0.01)
    assert spread.folds == 10
    assert gap == Interval(*(pytest.approx(v - paper) for v in (pooled.value, pooled.low, pooled.high)), signed=True)
    assert not gap.excludes_zero


def test_measures_that_the_paper_does_not_print_have_a_dash(printed):
    *_, paper, gap = cells(printed[2].tables[0], "Training from scratch", "Macro F1")

    assert (paper, gap) == (None, None)


def test_ratios_have_three_decimals(printed):
    line = next(line for line in to_markdown(printed[2].tables[0]).splitlines() if "Macro F1" in line)

    figures = re.findall(r"0\.(\d+)", line)

    assert len(figures) == 5  # the figure, its two bounds, mean and deviation over folds
    assert {len(decimals) for decimals in figures} == {3}


def test_the_text_states_what_is_resampled_and_what_is_not_covered(small):
    inputs, _, section = small
    text = " ".join(section.lead)

    assert f"{len(set(inputs.predictions.group_id)):,} groups" in text
    assert "2,000 bootstrap replicates (seed 2020)" in text
    assert "training again gives another network" in text
    assert "another hospital" in text


def test_the_positive_predictive_value_falls_with_the_prevalence(small):
    table = small[2].tables[1]
    prevalences = [row.labels[1] for row in table.rows]

    assert prevalences[:3] == ["1 %", "5 %", "20 %"]
    assert prevalences[3].endswith("%, the study's own share")
    assert table.rows[0].values[0].value < table.rows[2].values[0].value
    assert "provided that sensitivity and specificity were the same there" in small[2].lead[2]


def test_synthetic_images_are_marked_on_tables_and_picture(small):
    section = small[2]

    assert all(table.synthetic for table in (*section.tables, *section.folded))
    assert section.pictures[0].alt.startswith("Synthetic images.")


def test_the_alternative_text_contains_the_figures(printed):
    alt = printed[2].pictures[0].alt

    assert "Training from scratch 87.66 (" in alt
    assert "paper 87.66" in alt
    assert "Fine-tuning 7 not run, paper 43.43" in alt


def test_the_values_are_plain_json(printed):
    tree = json.loads(json.dumps(plain(printed[2].values), allow_nan=False))

    assert tree["scratch"]["pooled"]["roc_auc"]["low"] < tree["scratch"]["pooled"]["roc_auc"]["high"]
    assert tree["scratch"]["predictive"][0]["prevalence"] == 0.01


def test_one_strategy_without_covid19_images_gives_dashes_and_no_warning(tmp_path):
    frame = drawn_frame({"scratch": 0.9})
    section = made(tmp_path, frame[frame["label"] != "Covid19"])[2]

    assert section.folded == ()
    assert cells(section.tables[0], "Training from scratch", "Covid19 ROC AUC")[0].value is None
    assert section.lead[2].startswith("Predictive values are undefined without both Covid19 images and others")
