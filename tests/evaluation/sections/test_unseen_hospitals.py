from dataclasses import replace
from pathlib import Path

from cxr_platform.config import load_profile
from cxr_platform.domain.study import read_study
from cxr_platform.evaluation.predictions import load_origin_predictions
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections import unseen_hospitals
from tests.evaluation import planted
from tests.evaluation.origin_study import images, predictions, write_origin_study

STRATEGIES = {"off-the-shelf": {}, "scratch": {("west", "Normal"): "Covid19"}}


def inputs(folder: Path, profile: str = "quick", answers: dict = STRATEGIES) -> ReportInputs:
    """A study of scratch with all images right, and the study beside it that leaves origins out."""
    shown = images()
    scored = planted.predictions(list(shown["source"]), list(shown["label"]))
    ids = {name: shown[name].to_numpy(object) for name in ("image_id", "group_id")}
    made = planted.report_inputs(replace(scored, **ids))
    settings = load_profile(profile, {"folds": 2, "seed": 1})
    written = write_origin_study(folder, predictions(answers), profile=settings)
    study = read_study(written)
    return replace(made, origins=(study, load_origin_predictions(written, study)))


def rendered(made: ReportInputs) -> Section:
    return unseen_hospitals.render(made, unseen_hospitals.compute(made))


def test_the_winner_comes_first_and_every_strategy_has_a_row_and_a_matrix(tmp_path: Path) -> None:
    section = rendered(inputs(tmp_path))
    table, by_origin = section.tables
    assert by_origin.columns == ("east", "west")
    assert [value.value for value in by_origin.rows[0].values] == [100, 50]
    assert [(row.labels[0], row.kind) for row in table.rows] == [
        ("Training from scratch", "winner"),
        ("Off-the-shelf features", ""),
    ]
    assert [folded.name for folded in section.folded] == ["unseen-hospitals-scratch", "unseen-hospitals-off-the-shelf"]
    assert section.warnings == ()


def test_the_text_says_what_unseen_hospitals_cost_and_which_were_left_out(tmp_path: Path) -> None:
    lead = rendered(inputs(tmp_path)).lead
    assert lead[0].startswith("Training from scratch gives the right one of seven classes to 75.00")
    assert "of 160 images of hospitals that it never saw, of classes that other hospitals have too, 25.00" in lead[0]
    assert "25.00 points less (−" in lead[0]
    assert "the worst is Covid19 of" in lead[0]
    assert lead[1].startswith("Left out in turn: east and west.")


def test_the_first_page_has_the_pairs_of_the_winner(tmp_path: Path) -> None:
    made = inputs(tmp_path)
    results = unseen_hospitals.compute(made)
    assert {pair.strategy for pair in results.leading} == {"scratch"}
    assert results.finding is not None
    assert (results.finding.accuracy.value, results.finding.falls_far) == (75, True)
    without = inputs(tmp_path / "other", answers={"off-the-shelf": {}})
    assert unseen_hospitals.compute(without).leading == ()
    assert rendered(without).tables[0].rows[0].kind == ""


def test_other_settings_than_those_of_the_study_are_warned_of_and_are_not_on_the_first_page(tmp_path: Path) -> None:
    made = inputs(tmp_path, "demo")
    assert "trained with other settings than those of this study: " in rendered(made).warnings[0]
    assert unseen_hospitals.compute(made).leading == ()
    assert unseen_hospitals.compute(made).finding is None


def test_origins_that_could_not_be_left_out_are_named(tmp_path: Path) -> None:
    assert rendered(inputs(tmp_path)).lead[-1].endswith("is left to train on: south.")


def test_the_values_are_plain(tmp_path: Path) -> None:
    values = plain(rendered(inputs(tmp_path)).values)
    assert values["scratch"]["images"] == 160
    assert values["scratch"]["accuracy"]["value"] == 75
    assert values["scratch"]["worst"]["auc"]["value"] == min(
        pair["auc"]["value"] for pair in values["scratch"]["pairs"]
    )


def test_without_such_a_study_the_section_says_how_to_run_one() -> None:
    made = planted.report_inputs(planted.predictions(["east"] * 4, ["Covid19", "Normal"] * 2))
    assert "PROTOCOL=origins" in rendered(made).absent
