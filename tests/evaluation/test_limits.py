from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import CalibrationFinding, Findings, LeakageFinding
from cxr_platform.evaluation.limits import known_patients, study_limits
from cxr_platform.evaluation.study_results import StudyResults
from tests.evaluation.builders import drawn_frame, two_sources
from tests.evaluation.made_findings import findings


def limits(results: StudyResults, found: Findings) -> str:
    return " ".join(study_limits(results, found)).replace("\N{NO-BREAK SPACE}", " ")


def test_a_strategy_that_was_trained_too_short_is_named_among_the_limits(all_strategies):
    assert "Undertrained" not in limits(all_strategies, findings())
    text = limits(all_strategies, findings(undertrained=("off-the-shelf", "scratch")))
    assert "Undertrained: the training loss of off-the-shelf features and training from scratch still fell" in text


def test_without_known_patients_nothing_is_claimed_of_them(results):
    text = known_patients(results(two_sources(), known_patients={"cohen": 0, "nih": 0}))
    assert text.startswith("The patient is known for none of the 391 images; of the others")


def test_another_winner_than_the_paper_s_is_reported(results):
    study = results(drawn_frame({"off-the-shelf": 0.9, "fine-tuning-1": 0.8, "scratch": 0.5}))

    scratch = study.strategies["scratch"].mean.accuracy_7_class
    assert (
        f"In the paper training from scratch came first, with 87.66 %; here it is number 3, with {scratch:.2f} %."
        in limits(study, findings())
    )


def test_the_limits_say_if_the_paper_s_winner_was_not_run(results):
    study = results(drawn_frame({"off-the-shelf": 0.9}))

    assert "it was not run here" in limits(study, findings())


def test_the_limits_explain_intervals_and_differences_from_the_paper(all_strategies):
    text = limits(all_strategies, findings())

    assert "They do not cover the variation between training runs" in text
    assert "3,905 images, 10 folds and 200 × 200 pixels; this study used 391 images, 5 folds and 96 × 96" in text


def test_the_paper_protocol_is_a_limit(as_printed, all_strategies):
    assert "in several folds" in limits(as_printed, findings())
    assert "in several folds" not in limits(all_strategies, findings())


def test_significant_leakage_is_a_limit(all_strategies):
    leaking = LeakageFinding("scratch", Interval(3.2, 1.1, 5.0, signed=True))
    harmless = LeakageFinding("scratch", Interval(0.2, -1.1, 1.5, signed=True))

    assert "reaches 3.20 points of 7-class accuracy more than here (+1.10 to +5.00)" in limits(
        all_strategies, findings(leakage=leaking)
    )
    assert "paper's protocol" not in limits(all_strategies, findings(leakage=harmless))

    on_average = LeakageFinding("scratch", harmless.difference, mean=Interval(0.9, 0.2, 1.6, signed=True))
    assert "the same strategies reach on average 0.90 points" in limits(all_strategies, findings(leakage=on_average))


def test_a_lower_result_under_the_paper_protocol_is_not_called_leakage(all_strategies):
    lower = LeakageFinding("scratch", Interval(-3.2, -5.0, -1.1, signed=True))

    text = limits(all_strategies, findings(leakage=lower))

    assert "3.20 points of 7-class accuracy less than here" in text
    assert "in several folds cannot explain that" in text


def test_overconfident_probabilities_are_a_limit(all_strategies):
    errors = (Interval(0.12, 0.1, 0.14, ratio=True), Interval(0.03, 0.02, 0.04, ratio=True))

    text = limits(all_strategies, findings(calibration=CalibrationFinding("scratch", 1.84, *errors)))

    assert "0.120 (0.100 to 0.140), and 0.030 (0.020 to 0.040) after temperature scaling (temperature 1.84)" in text
    assert "overconfident" not in limits(
        all_strategies, findings(calibration=CalibrationFinding("scratch", 1.02, *errors))
    )
