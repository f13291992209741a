"""Areas under made-up deletion and insertion curves, and what the report says of them."""

import numpy as np
import pandas as pd
import pytest

from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections import explanations
from cxr_platform.evaluation.sections.heatmap_tests import heatmap_sentences, heatmap_tests, heatmap_values
from tests.evaluation.sections.explained_study import LABELS, explained_study, without

SHARES = (0.0, 0.5, 1.0)


def study_with_tests(deletion: float, insertion: float, similarity: float) -> ReportInputs:
    """Curves that go through `deletion` and `insertion` half way by heat, through 0.5 in random order."""
    made = explained_study()
    ids, strategy = made.predictions.image_id, made.results.decision.winner
    noise = 0.02 * np.sin(np.arange(len(ids)))
    rows = []
    for mode, ends in (("deletion", (1.0, 0.0)), ("insertion", (0.0, 1.0))):
        for order in ("heatmap", "random"):
            middle = 0.5 if order == "random" else {"deletion": deletion, "insertion": insertion}[mode]
            for share, value in zip(SHARES, (ends[0], middle, ends[1]), strict=True):
                columns = {"image_id": ids, "label": LABELS, "strategy": strategy, "fold": 0, "mode": mode}
                rows.append(pd.DataFrame({**columns, "order": order, "share": share, "probability": value + noise}))
    alike = [("another image", 0.3), ("output layer", 0.9), ("head and last blocks", similarity)]
    columns = {"image_id": ids, "label": LABELS, "strategy": strategy, "fold": 0}
    frames = [pd.DataFrame({**columns, "randomised": name, "similarity": value + noise}) for name, value in alike]
    made.evidence.parts.update(faithfulness=pd.concat(rows), randomised=pd.concat(frames))  # type: ignore[attr-defined]
    return made


def test_areas_are_those_of_trapezes_and_differences_are_paired() -> None:
    tests = heatmap_tests(study_with_tests(0.1, 0.9, 0.2))
    assert tests is not None
    deletion, insertion = tests.areas
    assert deletion.heatmap.value == pytest.approx(0.3, abs=0.01)
    assert deletion.random.value == pytest.approx(0.5, abs=0.01)
    assert deletion.difference.value == pytest.approx(-0.2)
    assert deletion.faithful
    assert insertion.faithful
    assert heatmap_values(tests)["images"] == len(LABELS)


@pytest.mark.parametrize(
    ("deletion", "insertion", "words"),
    [
        (0.1, 0.9, "they mark places that the answer depends on:"),
        (0.1, 0.1, "though these alone do not give it"),
        (0.9, 0.9, "though it does not depend on them alone"),
        (0.9, 0.1, "do not read them as reasons"),
    ],
)
def test_the_sentence_follows_the_areas(deletion: float, insertion: float, words: str) -> None:
    tests = heatmap_tests(study_with_tests(deletion, insertion, 0.2))
    assert tests is not None
    assert words in heatmap_sentences(tests)[0]


@pytest.mark.parametrize(("similarity", "words"), [(0.2, "depend on what"), (0.8, "show the image more than")])
def test_maps_that_do_not_change_with_the_weights_are_named(similarity: float, words: str) -> None:
    tests = heatmap_tests(study_with_tests(0.1, 0.9, similarity))
    assert tests is not None
    assert words in heatmap_sentences(tests)[1]
    assert "maps of another image 0.3" in heatmap_sentences(tests)[1]


def test_the_section_of_heatmaps_shows_the_tests() -> None:
    made = study_with_tests(0.1, 0.9, 0.2)
    section = explanations.render(made, explanations.compute(made))
    assert [picture.name for picture in section.pictures][:2] == ["lung-share", "heatmap-tests"]
    assert [table.name for table in section.tables] == ["lung-share", "heatmap-tests"]
    assert any("Are the heatmaps faithful?" in sentence for sentence in section.lead)
    assert section.values["tests"]["areas"]["deletion"]["difference"]["value"] == pytest.approx(-0.2)


def test_without_their_evidence_the_section_says_why() -> None:
    made = without(explained_study(), "faithfulness")
    section = explanations.render(made, explanations.compute(made))
    assert "The heatmaps were not tested. No weights are at hand." in section.lead
    assert section.values["tests"] is None


def test_networks_whose_maps_are_all_empty_after_the_shuffle_are_named() -> None:
    made = study_with_tests(0.1, 0.9, np.nan)
    tests = heatmap_tests(made)
    assert tests is not None
    assert "all maps are empty" in heatmap_sentences(tests)[1]
