import numpy as np
import pytest

from cxr_platform.domain.gate import POSITIVE, gated_answers
from cxr_platform.labels import CLASSES, class_index

NORMAL = class_index("Normal")


def probabilities(*covid: float) -> np.ndarray:
    """Covid19, and the rest on Normal but for 5 % on each other class."""
    shown = np.full((len(covid), len(CLASSES)), 0.05)
    shown[:, POSITIVE] = covid
    shown[:, NORMAL] = 0.75 - np.array(covid)
    return shown


def test_covid19_is_an_answer_only_where_both_heads_name_it() -> None:
    first, second = probabilities(0.7, 0.7, 0.1, 0.1), probabilities(0.6, 0.1, 0.7, 0.1)
    answers = gated_answers(first, second)
    assert answers.indeterminate.tolist() == [False, True, False, False]
    assert (answers.probabilities.argmax(axis=1) == POSITIVE).tolist() == [True, False, False, False]
    assert answers.probabilities[:, POSITIVE] == pytest.approx([0.6, 0.1, 0.1, 0.1])


def test_the_other_classes_keep_their_proportions() -> None:
    first, second = probabilities(0.7, 0.4), probabilities(0.2, 0.6)
    gated = gated_answers(first, second).probabilities
    assert gated.sum(axis=1) == pytest.approx(1)
    assert gated[0, NORMAL] / gated[0, class_index("Edema")] == pytest.approx(1)
    assert gated[1] == pytest.approx(first[1])


def test_a_head_that_is_certain_of_covid19_leaves_a_distribution() -> None:
    certain = np.eye(len(CLASSES))[[POSITIVE]]
    answers = gated_answers(certain, probabilities(0.1))
    assert answers.indeterminate.tolist() == [True]
    assert answers.probabilities[0] == pytest.approx([0.1 if place == POSITIVE else 0.15 for place in range(7)])
