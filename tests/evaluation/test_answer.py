import numpy as np
import pandas as pd

from cxr_platform.evaluation.answer import answer, confounding
from tests.evaluation.builders import drawn_frame, image_frame, with_predictions


def words(found) -> str:
    return " ".join((found.headline, *found.findings, *found.limits)).replace("\N{NO-BREAK SPACE}", " ")


def test_the_headline_names_the_winner_and_its_accuracy(as_printed):
    found = answer(as_printed)

    assert found.headline.replace("\N{NO-BREAK SPACE}", " ") == (
        "First of 2 strategies: training from scratch, with 87.66 % 7-class accuracy"
    )


def test_the_terminal_line_names_the_winner_the_margin_and_the_second(as_printed):
    margin = as_printed.verdict.margin_points

    assert answer(as_printed).winner_line == (
        f"Winner by the paper's rule: scratch, 7-class accuracy 87.66 %, {margin:.2f} points ahead of off-the-shelf."
    )


def test_the_findings_say_what_was_compared_on_what(all_strategies):
    text = words(answer(all_strategies))

    assert "All of the paper's eight ways" in text
    assert "391 films of seven classes in 5 folds" in text
    assert "Protocol “grouped”" in text
    assert "5 of 5 folds" in text


def test_another_winner_than_the_paper_s_is_said_in_the_first_lines(outcome):
    found = outcome(drawn_frame({"off-the-shelf": 0.9, "fine-tuning-1": 0.8, "scratch": 0.5}))

    scratch = found.results["scratch"].mean.accuracy_7_class
    assert (
        f"In the paper training from scratch came first, with 87.66 %; here it takes place 3, with {scratch:.2f} %."
        in (words(answer(found)))
    )


def test_it_is_said_when_the_paper_s_winner_was_not_run(outcome):
    assert "it was not run here" in words(answer(outcome(drawn_frame({"off-the-shelf": 0.9}))))


def test_an_only_strategy_is_first_of_nothing(outcome):
    found = answer(outcome(drawn_frame({"scratch": 0.9})))

    assert found.headline.startswith("Training from scratch: ")
    assert "One of the paper's eight ways of training MobileNetV2 was tested" in words(found)
    assert "no other strategy was run" in words(found)
    assert found.winner_line.endswith("(the only strategy run).")


def same_predictions_but_for(strategies: dict[str, int]) -> pd.DataFrame:
    """Both strategies miss the first ten Normal films; each takes them for the class at its position."""
    images = image_frame({"Covid19": 20, "Normal": 40}, folds=2)
    parts = []
    for name, wrong in strategies.items():
        predicted = np.array([0] * 20 + [wrong] * 10 + [6] * 30)
        parts.append(with_predictions(images, name, predicted))
    return pd.concat(parts, ignore_index=True)


def test_a_tie_decided_by_specificity_is_explained(outcome):
    found = answer(outcome(same_predictions_but_for({"off-the-shelf": 0, "scratch": 5})))

    assert "training from scratch" in found.headline
    assert "higher specificity, which decides" in words(found)
    assert found.winner_line.endswith("as off-the-shelf, with the higher specificity.")


def test_a_full_tie_is_not_made_a_victory(outcome):
    found = answer(outcome(same_predictions_but_for({"off-the-shelf": 5, "scratch": 5})))

    assert "share the first place" in found.headline
    assert "does not part the two" in words(found)
    assert "level with scratch" in found.winner_line


def test_the_limits_name_what_is_missing(all_strategies):
    text = words(answer(all_strategies))

    assert "no confidence intervals" in text
    assert "no test for shortcuts" in text
    assert "5 of 7 classes come from a single source" in text
    assert "3,905 films, 10 folds and 200 × 200 pixels; this study used 391 films, 5 folds and 96 × 96" in text


def test_the_paper_protocol_is_warned_of(as_printed, all_strategies):
    assert "both sides of a fold" in words(answer(as_printed))
    assert "both sides of a fold" not in words(answer(all_strategies))


def test_confounded_classes_are_named_by_source(all_strategies):
    assert confounding(all_strategies).startswith(
        "Edema, Effusion, Emphysema, Fibrosis only from nih; Pneumonia only from"
    )


def test_nothing_is_warned_of_where_every_class_has_several_sources(outcome):
    frame = drawn_frame({"scratch": 0.9})
    frame["source"] = ["a" if i % 2 else "b" for i in range(len(frame))]

    assert confounding(outcome(frame)) == ""


def test_three_on_the_first_place_are_all_named(outcome):
    found = answer(outcome(same_predictions_but_for({"off-the-shelf": 5, "fine-tuning-1": 5, "scratch": 5})))

    assert " and training from scratch share the first place" in found.headline
    assert "does not part the three" in words(found)
    assert found.winner_line.endswith("level with fine-tuning-1 and scratch.")


def test_a_study_of_one_source_says_that_a_shortcut_by_source_cannot_be_told(outcome):
    frame = drawn_frame({"scratch": 0.9})
    frame["source"] = "hospital"
    found = outcome(frame)

    assert "All films come from one source" in words(answer(found))
    assert "single source" not in words(answer(found))
    assert confounding(found) == ""
