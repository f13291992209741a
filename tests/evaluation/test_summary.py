import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.credibility import assess_credibility
from cxr_platform.evaluation.findings import LeakageFinding, PickedAccuracy
from cxr_platform.evaluation.summary import Summary, next_steps, summarize, winner_line
from tests.evaluation.builders import drawn_frame, image_frame, two_sources, with_predictions
from tests.evaluation.made_findings import CONTRADICTION, SINGLE, comparison, findings, probe, source_probe

TITLES = ["What was compared", "Best strategy", "Margin", "Credibility", "Next steps"]


def lines(summary: Summary) -> dict[str, str]:
    return {line.title: line.text.replace("\N{NO-BREAK SPACE}", " ") for line in summary.lines}


def limits(summary: Summary) -> str:
    return " ".join(summary.limits).replace("\N{NO-BREAK SPACE}", " ")


def test_the_summary_has_five_lines_in_order(all_strategies):
    assert [line.title for line in summarize(all_strategies, findings()).lines] == TITLES


def test_the_short_parts_can_be_read_in_ten_seconds(all_strategies):
    summary = summarize(all_strategies, findings(external=(CONTRADICTION,), association=SINGLE))

    assert [line.short.replace("\N{NO-BREAK SPACE}", " ") for line in summary.lines][1:4] == [
        "Training from scratch: 7-class accuracy 87.66 % (86.10 to 89.20).",
        f"{all_strategies.decision.margin_points:.2f} points of 7-class accuracy more than fine-tuning 11, the second.",
        "Not supported:",
    ]
    assert sum(len(line.short.split()) for line in summary.lines) < 80


def test_the_headline_names_the_winner_and_its_accuracy(as_printed):
    summary = summarize(as_printed, findings())

    assert summary.headline.replace("\N{NO-BREAK SPACE}", " ") == (
        "First of 2 strategies: training from scratch, with 87.66 % 7-class accuracy"
    )


def test_the_headline_has_the_accuracy_corrected_for_the_choice_of_the_best(as_printed):
    picked = PickedAccuracy(Interval(87.66, 86.1, 89.2), optimism=0.4, strategies=2)
    summary = summarize(as_printed, findings(picked=picked))

    assert summary.headline.replace("\N{NO-BREAK SPACE}", " ") == (
        "First of 2 strategies: training from scratch, with 87.26 % 7-class accuracy (87.66 % before correction for "
        "the choice of the best)"
    )
    assert lines(summary)["Best strategy"].startswith(
        "Training from scratch: 7-class accuracy 87.26 % (85.70 to 88.80). Measured: 87.66 % (86.10 to 89.20), of "
        "which 0.40 points come from its being the best of 2 on these images. Always predicting"
    )


def test_the_headline_says_if_the_results_are_not_supported(as_printed):
    assert summarize(as_printed, findings(external=(CONTRADICTION,))).headline.endswith(
        "not supported by the tests below"
    )


def test_the_terminal_line_names_the_winner_the_margin_and_the_second(as_printed):
    margin = as_printed.decision.margin_points

    assert winner_line(as_printed) == (
        f"Winner by the paper's rule: scratch, 7-class accuracy 87.66 %, {margin:.2f} points ahead of off-the-shelf."
    )


def test_what_was_compared_names_images_folds_and_protocol(all_strategies):
    compared = lines(summarize(all_strategies, findings()))["What was compared"]

    assert compared == (
        "All of the paper's eight training strategies for MobileNetV2, on 391 images of seven classes in 5 folds. Each "
        "image was predicted by a network trained without its fold; protocol “grouped”: images of one known patient, "
        "duplicates and "
        "near-duplicates stay in one fold. The patient is known for all 391 images."
    )


def test_what_was_compared_names_a_strategy_that_the_paper_does_not_have(nine_strategies, results):
    compared = lines(summarize(nine_strategies, findings()))["What was compared"]
    assert compared.startswith(
        "All of the paper's eight training strategies for MobileNetV2, and robust head, which the paper does not have, "
    )
    two = results(drawn_frame({"off-the-shelf": 0.8, "robust": 0.9}))
    assert lines(summarize(two, findings()))["What was compared"].startswith("One of the paper's eight training")


def test_the_first_line_and_the_limits_give_the_share_of_known_patients(results):
    summary = summarize(results(two_sources(), known_patients={"cohen": 10, "nih": 40}), findings())
    covid = two_sources()["source"].value_counts()["cohen"]

    assert lines(summary)["What was compared"].endswith(
        f"The patient is known for 50 of 391 images (12.79 %): cohen 10 of {covid}, nih 40 of {391 - covid}; of the "
        "others, only duplicates and near-duplicates are kept together."
    )
    assert "For 87.21 % of the images the patient is not known: images of one patient among them may be" in limits(
        summary
    )


def test_the_paper_s_protocol_claims_no_known_patients(results):
    summary = summarize(results(two_sources(), known_patients={"cohen": 10}, protocol="paper"), findings())
    assert "kept together" not in " ".join(lines(summary).values())
    assert "not known" not in limits(summary)


def test_classes_without_images_are_not_counted(results):
    study = results(same_predictions_but_for({"scratch": 5}))

    assert (
        "on 60 images of 2 of the seven classes in 2 folds" in lines(summarize(study, findings()))["What was compared"]
    )


def test_the_best_strategy_has_intervals_chance_and_the_paper(as_printed):
    assert lines(summarize(as_printed, findings()))["Best strategy"] == (
        "Training from scratch: 7-class accuracy 87.66 % (86.10 to 89.20). Always predicting the most "
        "frequent class would "
        "reach 34.34 %. Covid19 against the rest: sensitivity 97.40 % (95.00 to 99.00), specificity 99.40 % (99.00 to "
        "99.80)."
    )
    assert "In the paper training from scratch came first, with 87.66 %." in limits(summarize(as_printed, findings()))


def test_a_significant_difference_has_an_interval_and_a_corrected_test(as_printed):
    clear = comparison("off-the-shelf", 41.2, 39.0, 43.4, 0.0001, pairs=1)

    assert lines(summarize(as_printed, findings(comparisons=(clear,))))["Margin"] == (
        "41.20 points of 7-class accuracy more than off-the-shelf features, the second: a significant difference. "
        "95 % interval of the difference +39.00 to +43.40; sign test over patients: p < 0.001."
    )


def test_strategies_that_are_not_significantly_different_are_named(all_strategies):
    second = all_strategies.decision.runner_up
    tested = (
        comparison(second, 0.8, -0.4, 2.0, 0.412, pairs=28),
        comparison("fine-tuning-1", 1.0, -0.1, 2.1, 0.3),
        comparison("fine-tuning-3", 30.0, 25.0, 35.0, 0.0001),
    )

    text = lines(summarize(all_strategies, findings(comparisons=tested)))["Margin"]

    assert "the second: not significantly different. 95 % interval" in text
    assert "−0.40 to +2.00; sign test over patients, corrected for all 28 pairs of strategies: p = 0.412." in text
    assert text.endswith("Not significantly different either: fine-tuning 1.")


def test_a_difference_without_a_test_is_the_margin_of_the_rule(as_printed):
    margin = as_printed.decision.margin_points

    assert lines(summarize(as_printed, findings()))["Margin"] == (
        f"{margin:.2f} points of 7-class accuracy more than off-the-shelf features, the second. No test was computed."
    )


def test_a_single_strategy_has_no_margin(results):
    single = results(drawn_frame({"scratch": 0.9}))
    summary = summarize(single, findings())

    assert summary.headline.startswith("Training from scratch: ")
    assert lines(summary)["What was compared"].startswith(
        "One of the paper's eight training strategies for MobileNetV2, on"
    )
    assert lines(summary)["Margin"] == "No other strategy was run."
    assert winner_line(single).endswith("(the only strategy run).")


def same_predictions_but_for(strategies: dict[str, int]) -> pd.DataFrame:
    """All strategies miss the first ten Normal images; each takes them for the class at its position."""
    images = image_frame({"Covid19": 20, "Normal": 40}, folds=2)
    parts = []
    for name, wrong in strategies.items():
        predicted = np.array([0] * 20 + [wrong] * 10 + [6] * 30)
        parts.append(with_predictions(images, name, predicted))
    return pd.concat(parts, ignore_index=True)


def test_a_tie_decided_by_specificity_is_explained(results):
    tied = results(same_predictions_but_for({"off-the-shelf": 0, "scratch": 5}))
    level = (comparison("off-the-shelf", 0.0, 0.0, 0.0, 1.0),)

    expected = "Tied with off-the-shelf features, the second (the higher specificity decides)"
    assert lines(summarize(tied, findings()))["Margin"].startswith(expected)
    assert lines(summarize(tied, findings(comparisons=level)))["Margin"].startswith(f"{expected}: not significantly")
    assert winner_line(tied).endswith("tied with off-the-shelf, with the higher specificity.")


def test_a_full_tie_has_no_winner(results):
    tied = results(same_predictions_but_for({"off-the-shelf": 5, "fine-tuning-1": 5, "scratch": 5}))
    summary = summarize(tied, findings(comparisons=(comparison("fine-tuning-1", 0.0, 0.0, 0.0, 1.0),)))

    assert " and training from scratch share the first place" in summary.headline
    assert "does not separate the three" in lines(summary)["Margin"]
    assert winner_line(tied).endswith("tied with fine-tuning-1 and scratch.")


def test_contradicting_external_images_are_in_the_five_lines(all_strategies):
    summary = summarize(all_strategies, findings(external=(CONTRADICTION,)))
    credibility = summary.lines[3]

    assert credibility.alarm
    assert credibility.text.startswith("Not supported: ")
    for figure in ("14 of the 18 images of actualmed", "22.22", "5.56 to 44.44", "98.50", "97.40 to 99.20"):
        assert figure in credibility.text


def test_classes_of_one_source_give_a_warning(all_strategies):
    (warning,) = summarize(all_strategies, findings(association=SINGLE)).warnings

    assert warning.startswith("Edema, Effusion only from nih; Pneumonia only from kermany. For a class with")


def test_there_is_no_warning_if_every_class_has_several_sources(all_strategies):
    summary = summarize(all_strategies, findings())

    assert summary.warnings == ()
    assert not any(line.alarm for line in summary.lines)


def test_further_reasons_are_limits(all_strategies):
    made = findings(
        external=(CONTRADICTION,),
        probes=(probe(shortcut=True),),
        association=SINGLE,
        source_probes=(source_probe(95.0),),
    )

    assert limits(summarize(all_strategies, made)).startswith("The source is predicted from whole images for 95.00 %")


def steps(results, **changes) -> list[str]:
    made = findings(**changes)
    return next_steps(results, made, assess_credibility(results, made))


def test_classes_of_one_source_ask_for_a_second(as_printed):
    assert steps(as_printed, association=SINGLE)[0] == (
        "add images of Edema, Effusion and Pneumonia from a second source and repeat the study: `make "
        "cv-all DATA=FOLDER`"
    )


def test_a_contradiction_asks_for_more_sources(as_printed):
    assert steps(as_printed, external=(CONTRADICTION,))[0].startswith("train on images of more sources")


def test_missing_probes_are_a_step_and_computed_ones_belong_beside_the_accuracy(as_printed):
    assert any("cxr report --study" in step for step in steps(as_printed, probes=()))
    assert any("no accuracy without the probes" in step for step in steps(as_printed, probes=(probe(shortcut=True),)))


def test_external_images_are_a_step_until_there_are_some(as_printed):
    wanted = "evaluate external images: `cxr evaluate --study runs/test --data FOLDER`"

    assert wanted in steps(as_printed)
    assert wanted not in steps(as_printed, external=(CONTRADICTION,))


def test_the_other_protocol_is_a_step_until_it_was_run(as_printed):
    known = LeakageFinding("scratch", Interval(0.2, -1.1, 1.5, signed=True))

    assert "measure the effect of leakage: `make cv-all DATA=FOLDER PROTOCOL=both`" in steps(as_printed)
    assert not any("leakage" in step for step in steps(as_printed, leakage=known))


def test_fewer_folds_than_in_the_paper_ask_for_its_profile(results, as_printed):
    few = results(drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}, folds=3))

    level = (comparison("off-the-shelf", 0.2, -1.0, 1.4, 0.9),)
    assert steps(few)[-2] == "repeat it as in the paper: `make cv-all DATA=FOLDER PROFILE=paper`"
    assert "separate the strategies" in steps(few, comparisons=level)[-2]
    assert not any("PROFILE=paper" in step for step in steps(as_printed))


def test_synthetic_images_are_to_be_replaced_first(all_strategies):
    assert steps(all_strategies)[0] == "repeat the study on real images: `make cv-all DATA=FOLDER`"
    assert "`make cv-all PROTOCOL=both`" in " ".join(steps(all_strategies))


def test_the_first_three_steps_are_put_into_words(as_printed):
    line = summarize(as_printed, findings(association=SINGLE, probes=())).lines[-1]

    assert line.short.startswith("Add images of Edema, Effusion and Pneumonia from a second source")
    assert line.rest.startswith("Then compute the shortcut probes: ")
    assert "; then evaluate external images: " in line.rest


def test_a_correction_that_changes_no_printed_digit_is_not_mentioned(as_printed):
    picked = PickedAccuracy(Interval(87.66, 86.1, 89.2), optimism=0.001, strategies=2)
    summary = summarize(as_printed, findings(picked=picked))

    assert "correction" not in summary.headline
    assert "Measured" not in " ".join(line.text for line in summary.lines)
