"""Curves of accuracy against the strength of a change, from made-up answers."""

import numpy as np
import pandas as pd
import pytest

from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.corruptions import CLEAN, KINDS, compute, render
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import probabilities
from tests.evaluation.probed import LABELS, answers, study, with_evidence


def changed_study(right: dict[tuple[str, float], int]) -> ReportInputs:
    """A study of 200 images of which the winner has 190 right unchanged, and that many per kind and strength."""
    made = study()
    parts = [_rows(made, kind, strength, n) for (kind, strength), n in {(CLEAN, 0.0): 190, **right}.items()]
    return with_evidence(made, corruptions=pd.concat(parts))


def _rows(made: ReportInputs, kind: str, strength: float, right: int) -> pd.DataFrame:
    columns = {"corruption": kind, "strength": strength, "image_id": made.predictions.image_id, "label": LABELS}
    frame = pd.DataFrame({**columns, "strategy": made.results.decision.winner, "fold": 0})
    chosen = np.array([CLASSES.index(label) for label in answers(right)])
    from cxr_platform.domain.predictions import PROBABILITY_COLUMNS

    frame[list(PROBABILITY_COLUMNS)] = probabilities(chosen)
    return frame.iloc[::-1]  # what belongs together is found by image_id


EVERY = {(kind, strength): 190 for kind in KINDS for strength in (1.0, 2.0)}


def test_accuracy_and_its_change_are_those_of_the_answers() -> None:
    clean, *rest = compute(changed_study({**EVERY, ("blur", 2.0): 100}))
    assert (clean.kind, clean.accuracy.value, clean.change.value) == (CLEAN, 95.0, 0.0)
    blurred = next(one for one in rest if (one.kind, one.strength) == ("blur", 2.0))
    assert (blurred.accuracy.value, blurred.change.value) == (50.0, -45.0)
    assert blurred.worse
    assert not any(one.worse for one in rest if one is not blurred)


def test_the_text_names_the_first_strength_that_lowers_the_accuracy() -> None:
    made = changed_study({**EVERY, ("blur", 2.0): 100})
    section = render(made, compute(made))
    assert "Blur from σ 2 % of the side: −45.00 (" in section.lead[1]
    assert "lowers it significantly for: contrast, JPEG, rotation, crop and marker text" in section.lead[1]
    assert "On 200 images" in section.lead[0]
    assert len(section.tables[0].rows) == 1 + 12
    assert section.pictures[0].alt.startswith("Curves of accuracy against strength. Unchanged 95.00")
    assert plain(section.values)["changes"][0]["accuracy"]["value"] == pytest.approx(95)


def test_without_evidence_the_section_says_why() -> None:
    made = with_evidence(study(), {"corruptions": "No weights are at hand."})
    assert compute(made) == ()
    assert render(made, ()).absent == "No weights are at hand."


def test_another_strategy_is_ignored() -> None:
    made = changed_study(EVERY)
    frame = made.evidence.parts["corruptions"].assign(strategy="fine-tuning-1")
    assert compute(with_evidence(made, corruptions=frame)) == ()


def test_the_change_has_intervals_that_hold_for_all_rows_at_once() -> None:
    one_row = compute(changed_study({("blur", 1.0): 186}))
    every_row = compute(changed_study({**{(kind, s): 186 - i for i, kind in enumerate(KINDS) for s in (1.0, 2.0)}}))
    alone = next(one.change for one in one_row if one.kind == "blur")
    among = next(one.change for one in every_row if one.kind == "contrast")
    assert alone.value == among.value == -2.0
    assert alone.low is not None
    assert among.low is not None
    assert among.low < alone.low
