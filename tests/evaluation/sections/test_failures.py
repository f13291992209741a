from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.failures import compute, confident_mistakes, confident_right, render
from cxr_platform.labels import CLASSES
from tests.evaluation.planted import STRATEGY, predictions
from tests.evaluation.sections.explained_study import COUNT, explained_study, without


def scored(predicted: list[str], confidence: list[float], label: str = "Normal"):
    """Return images of class `label` with predictions and their confidences."""
    made = predictions(["east"] * len(predicted), [label] * len(predicted), predicted)
    for row, sure in enumerate(confidence):
        answer = CLASSES.index(predicted[row])
        made.probability[STRATEGY][row] = (1 - sure) / (len(CLASSES) - 1)
        made.probability[STRATEGY][row, answer] = sure
    return made


def test_mistakes_are_sorted_by_confidence():
    made = scored(["Covid19", "Edema", "Normal", "Fibrosis"], [0.6, 0.9, 0.99, 0.7])

    assert list(confident_mistakes(made, STRATEGY)) == [1, 3, 0]


def test_the_mistakes_per_pair_of_classes_are_limited():
    made = scored(["Covid19"] * 5 + ["Edema"], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])

    assert list(confident_mistakes(made, STRATEGY, per_pair=3)) == [0, 1, 2, 5]
    assert list(confident_mistakes(made, STRATEGY, count=2)) == [0, 1]


def test_there_is_at_most_one_mistake_per_patient():
    made = scored(["Covid19"] * 3, [0.9, 0.8, 0.7])
    made = replace(made, group_id=np.array(["a", "a", "b"], dtype=object))

    assert list(confident_mistakes(made, STRATEGY)) == [0, 2]


def test_right_answers_are_the_most_confident_of_each_class():
    made = scored(["Normal", "Normal", "Normal", "Edema"], [0.7, 0.9, 0.8, 0.99])

    assert list(confident_right(made, STRATEGY, per_class=2)) == [1, 2]


def test_mistakes_have_class_prediction_confidence_and_source():
    inputs = explained_study(wrong=3)
    mistakes = compute(inputs)

    assert (mistakes.wrong, mistakes.images) == (3, COUNT)
    assert [(m.actual, m.predicted, m.source) for m in mistakes.shown] == [
        ("Covid19", "Edema", "west"),
        ("Edema", "Effusion", "east"),
        ("Effusion", "Emphysema", "west"),
    ]
    assert mistakes.shown[0].confidence == pytest.approx(70)


def test_every_mistake_is_in_a_picture_and_its_alternative_text():
    inputs = explained_study(wrong=21)
    mistakes = compute(inputs)
    made = render(inputs, mistakes)

    assert [picture.name for picture in made.pictures] == ["mistakes-1", "mistakes-2", "mistakes-3"]
    assert "9. " in made.pictures[1].alt
    assert made.pictures[1].caption.startswith("Mistakes 9 to 16")
    assert "1. Covid19 predicted as Edema with 70.00\u00a0%, source west" in made.pictures[0].alt
    assert made.pictures[0].png.startswith(b"\x89PNG")
    assert len(made.folded[0].rows) == len(mistakes.shown) == 21
    assert "wrong on 21 of 56 images" in made.lead[0]
    assert plain(made.values)["wrong"] == 21


def test_synthetic_images_are_marked():
    inputs = explained_study(synthetic=True)
    made = render(inputs, compute(inputs))

    assert made.pictures[0].alt.startswith("Synthetic images. ")
    assert made.folded[0].synthetic


def test_without_images_or_heatmaps_there_is_only_the_table():
    inputs = explained_study()
    no_images = replace(inputs, images=None)
    no_maps = without(inputs, "heatmaps")

    assert "manifest, which was not given" in render(no_images, compute(no_images)).lead[1]
    assert render(no_maps, compute(no_maps)).lead[1] == "No heatmaps: No weights are at hand."
    for made in (render(no_images, compute(no_images)), render(no_maps, compute(no_maps))):
        assert not made.pictures
        assert len(made.folded[0].rows) == 6


def test_without_mistakes_the_section_says_so():
    inputs = explained_study(wrong=0)

    assert render(inputs, compute(inputs)).absent == "No mistakes: all 56 images were classified correctly."
