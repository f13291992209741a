import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections import hospitals
from cxr_platform.labels import CLASSES
from tests.evaluation.probed import study, with_evidence

COVID = CLASSES.index("Covid19")


def scored(left_out: str, scores: dict[tuple[str, str], float], images: int = 25) -> pd.DataFrame:
    """`images` of each (source, label) with a mean Covid19 probability, the same for all but a little."""
    parts = []
    for (source, label), score in scores.items():
        ids = [f"{source}-{label}-{i}" for i in range(images)]
        frame = pd.DataFrame(
            {"left_out": left_out, "part": 0, "image_id": ids, "group_id": ids, "origin": source, "label": label}
        )
        values = np.full((images, len(CLASSES)), 0.0)
        values[:, COVID] = score + np.linspace(-0.1, 0.1, images)
        values[:, CLASSES.index("Normal")] = 1 - values[:, COVID]
        frame[list(PROBABILITY_COLUMNS)] = values
        parts.append(frame)
    return pd.concat(parts)


def by_hospital(images: int = 25) -> pd.DataFrame:
    """Without `west`, its images are all ranked low; without `east`, the disease is recognised."""
    keys = [("east", "Covid19"), ("east", "Normal"), ("west", "Covid19"), ("west", "Normal")]
    west = scored("west", dict(zip(keys, (0.9, 0.5, 0.2, 0.2), strict=True)), images)
    east = scored("east", dict(zip(keys, (0.8, 0.2, 0.8, 0.2), strict=True)), images)
    return pd.concat([west, east])


def rendered(frame: pd.DataFrame):
    inputs = with_evidence(study(), hospitals=frame)
    results = hospitals.compute(inputs)
    assert results.leading is results.whole_image
    return hospitals.render(inputs, results), {(p.left_out, p.positive, p.negative): p for p in results.whole_image}


def test_each_pair_of_which_one_is_left_out_has_an_auc():
    _, pairs = rendered(by_hospital())

    assert {key: pair.auc.value for key, pair in pairs.items() if key[0] == "west"} == pytest.approx(
        {("west", "west", "west"): 0.5, ("west", "west", "east"): 0.0, ("west", "east", "west"): 1.0}, abs=0.01
    )
    assert len(pairs) == 6
    assert (pairs["west", "west", "east"].images, pairs["west", "west", "east"].others) == (25, 25)


def test_the_matrix_has_both_directions_and_the_text_names_mean_and_worst():
    section, _ = rendered(by_hospital())
    (table,) = section.tables

    assert [row.labels for row in table.rows] == [
        (origin, what) for origin in ("east", "west") for what in (hospitals.POSITIVES, hospitals.NEGATIVES)
    ]
    assert table.columns == ("east", "west")
    assert section.lead[0].startswith("The mean of 6 AUCs is 0.75")
    assert "The worst is Covid19 of west against other images of east, trained without west: AUC 0.0" in section.lead[0]


def test_pairs_ranked_the_wrong_way_round_are_warned_of():
    section, pairs = rendered(by_hospital())

    assert pairs["west", "west", "east"].reversed
    assert section.warnings[0].startswith("1 pair is significantly ranked the wrong way round: Covid19 of west against")


def test_small_pairs_are_not_called_the_worst():
    frame = pd.concat([by_hospital(30), scored("east", {("tiny", "Covid19"): 0.0}, images=3)])
    section, pairs = rendered(frame)

    assert pairs["east", "tiny", "east"].auc.value < 0.1
    assert "The worst (of those with 20 patients or more on both sides) is Covid19 of west" in section.lead[0]
    assert {row.kind for row in section.folded[0].rows if row.labels[0] == "tiny"} == {"small"}


def test_hospitals_that_could_not_be_left_out_are_named():
    frame = by_hospital()
    section, _ = rendered(frame[frame["left_out"] == "west"])

    assert (
        section.lead[-1] == "Not left out, because without it no Covid19, or nothing else, is left to train on: east."
    )


def test_heads_of_robust_have_a_matrix_of_their_own():
    better = pd.concat([scored("west", {("east", "Covid19"): 0.9, ("west", "Covid19"): 0.8, ("west", "Normal"): 0.1})])
    inputs = with_evidence(study(), hospitals=by_hospital(), hospitals_robust=better)
    results = hospitals.compute(inputs)
    section = hospitals.render(inputs, results)
    assert [table.name for table in section.tables] == ["hospitals", "hospitals-by-robust"]
    assert [table.name for table in section.folded] == ["hospital-pairs", "hospital-pairs-by-robust"]
    assert section.lead[-1].startswith("By the head of robust, the mean of 2 AUCs is 1.000.")
    assert section.values["robust"]["mean_auc"]["value"] == 1
    assert {pair.strategy for pair in results.robust} == {"robust"}
    assert not any("robust" in warning for warning in section.warnings)


def test_pairs_that_robust_ranks_the_wrong_way_round_are_warned_of_by_its_name():
    inputs = with_evidence(study(), hospitals=by_hospital(), hospitals_robust=by_hospital())
    section = hospitals.render(inputs, hospitals.compute(inputs))
    assert section.warnings[1].startswith("By the head of robust, 1 pair is significantly ranked the wrong way round")


def test_the_first_page_has_the_pairs_of_robust_if_it_is_the_winner():
    made = with_evidence(study(), hospitals=by_hospital(), hospitals_robust=by_hospital())
    results = hospitals.compute(replace(made, results=SimpleNamespace(decision=SimpleNamespace(winner="robust"))))
    assert results.leading is results.robust
    assert hospitals.compute(made).leading is not results.robust


def test_without_the_evidence_the_section_says_why():
    inputs = with_evidence(study(), {"hospitals": "Expected Covid19 from two hospitals."})
    assert hospitals.render(inputs, hospitals.compute(inputs)).absent == "Expected Covid19 from two hospitals."


def test_the_values_are_plain_json():
    section, _ = rendered(by_hospital())
    tree = json.loads(json.dumps(plain(section.values), allow_nan=False))

    assert len(tree["pairs"]) == 6
    assert tree["worst"]["positive"] == "west"
