import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cxr_platform.domain.operating_point import DecisionRule
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.evidence.image_answers import ANSWER_COLUMNS, image_answers
from cxr_platform.intake.candidate import Refusal
from cxr_platform.labels import CLASSES

FILES = ("h/b b.png", "h/a.png", "h/ö.png")
COVID19 = ((0.9, 0.7), (0.45, 0.55), (0.1, 0.2))
"""Per file, the probability of Covid19 in each of two folds; the rest is Normal's."""
RULE = DecisionRule(target_sensitivity=0.95, threshold=0.5, zone=(0.4, 0.6))


def predictions() -> pa.Table:
    rows = []
    for strategy, swapped in (("scratch", False), ("off-the-shelf", True)):
        for fold in (1, 0):
            for number, (file, values) in enumerate(zip(FILES, COVID19, strict=True)):
                p = 1 - values[fold] if swapped else values[fold]
                row = dict.fromkeys(PROBABILITY_COLUMNS, 0.0) | {"p_Covid19": p, "p_Normal": 1 - p}
                stated = {"label": None if number else "Covid19", "finding": "SARS" if number == 1 else None}
                rows.append(
                    {"image_id": f"{number}", "source_path": file, "strategy": strategy, "fold": fold} | stated | row
                )
    return pa.Table.from_pylist(rows)


def answers(rule: DecisionRule | None = RULE, temperature: float = 1.0) -> pd.DataFrame:
    refused = {"h/letter.txt": Refusal("not-an-image", "text")}
    table = image_answers(predictions(), refused, "scratch", None if rule is None else (temperature, rule))
    return table.set_index("source_path")


def test_each_file_has_one_row_with_the_mean_of_the_winners_networks() -> None:
    table = answers()
    assert table.index.tolist() == sorted([*FILES, "h/letter.txt"])
    assert [table.index.name, *table.columns] == list(ANSWER_COLUMNS)
    assert table.loc["h/b b.png", ["answer", "probability", "label"]].tolist() == ["Covid19", 0.8, "Covid19"]
    assert table.loc["h/ö.png", ["answer", "probability"]].tolist() == ["Normal", 0.85]
    assert table.loc["h/ö.png"].isna()["label"]
    assert table["finding"].dropna().to_dict() == {FILES[1]: "SARS"}


def test_a_refused_file_has_its_reason_and_no_answer() -> None:
    row = answers().loc["h/letter.txt"]
    assert row[["reason", "detail"]].tolist() == ["not-an-image", "text"]
    assert row[["answer", "probability", "decision", "agreeing_folds"]].isna().all()


def test_the_networks_that_agree_with_the_answer_are_counted() -> None:
    assert answers().loc[list(FILES), "agreeing_folds"].tolist() == [2, 1, 2]


def test_the_decision_is_that_of_the_operating_point() -> None:
    assert answers().loc[list(FILES), "decision"].tolist() == ["positive", "indeterminate", "negative"]


def test_probabilities_are_calibrated_before_the_decision() -> None:
    table = answers(temperature=3.0)
    one = np.eye(len(CLASSES))[CLASSES.index("Covid19")]
    other = np.eye(len(CLASSES))[CLASSES.index("Normal")]
    scaled = scale(np.stack([p * one + (1 - p) * other for p in COVID19[0]]), 3.0)[:, CLASSES.index("Covid19")]
    assert table.loc["h/b b.png", "covid19_probability"] == pytest.approx(scaled.mean(), abs=1e-6)
    assert table.loc["h/b b.png", "probability"] == 0.8


def test_without_an_operating_point_there_are_answers_but_no_decisions() -> None:
    table = answers(rule=None)
    assert table.loc[list(FILES), "answer"].notna().all()
    assert table[["decision", "covid19_probability"]].isna().all(axis=None)


def test_a_folder_without_refused_files_has_answers_only() -> None:
    assert len(image_answers(predictions(), {}, "scratch", (1.0, RULE))) == len(FILES)


def test_an_image_on_which_the_heads_of_half_of_the_networks_disagree_is_indeterminate() -> None:
    table = predictions().to_pandas()
    table["indeterminate"] = None
    winner = table["strategy"] == "scratch"
    table.loc[winner, "indeterminate"] = (table["image_id"] == "0") & (table["fold"] == 1)
    shown = image_answers(pa.Table.from_pandas(table), {}, "scratch", (1.0, RULE)).set_index("source_path")
    assert shown.loc[list(FILES), "decision"].tolist() == ["indeterminate", "indeterminate", "negative"]
    assert shown.loc["h/b b.png", "covid19_probability"] == pytest.approx(0.8)
    of_other = image_answers(pa.Table.from_pandas(table), {}, "off-the-shelf", (1.0, RULE))
    assert set(of_other["decision"]) == {"positive", "negative", "indeterminate"}
