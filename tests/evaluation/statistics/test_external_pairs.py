import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.statistics.external_pairs import OTHER_FINDINGS, ExternalPairs, external_pairs
from cxr_platform.labels import CLASSES

Sides = list[tuple[str, str | None, str | None, int, float]]
"""Source, class, other finding, number of images, and how much their score is raised."""

SIDES: Sides = [
    ("spain", "Covid19", None, 30, 1.0),
    ("ohio", "Normal", None, 40, 0.0),
    ("ohio", "Pneumonia", None, 25, 1.5),
    ("shenzhen", None, "tuberculosis", 30, 0.5),
]


def frame(sides: Sides, strategies: tuple[str, ...] = ("scratch",), *, raised: float = 0.0) -> pd.DataFrame:
    """Images of each side by the networks of two folds; Covid19 is `raised` for every further strategy."""
    rows = []
    for place, strategy in enumerate(strategies):
        random = np.random.default_rng(7)
        for source, label, finding, number, gap in sides:
            for image in range(number):
                facts = {"source": source, "label": label, "finding": finding, "strategy": strategy}
                name = f"{source}-{label or finding}-{image:02d}"
                higher = place * raised if label == "Covid19" else 0.0
                for fold in (0, 1):
                    score = 1 / (1 + np.exp(-(random.normal() + gap + higher)))
                    chances = dict.fromkeys(PROBABILITY_COLUMNS, (1 - score) / (len(CLASSES) - 1))
                    row = {"image_id": name, "group_id": name, "fold": fold, **facts, **chances}
                    rows.append(row | {"p_Covid19": score})
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def found(
    scored: pd.DataFrame, origins: dict[str, str] | None = None, studied: frozenset[str] = frozenset()
) -> ExternalPairs:
    (pairs,) = external_pairs(scored, origins or {}, studied, ["scratch"], "scratch", seed=1)
    return pairs


def names(pairs: ExternalPairs) -> list[tuple[str, str, str]]:
    return [(pair.positive, pair.negative, pair.finding) for pair in pairs.pairs]


def test_covid19_is_ranked_against_each_class_and_finding_of_each_other_source() -> None:
    scored = frame(SIDES)
    pairs = found(scored)
    assert names(pairs) == [
        ("spain", "ohio", "Normal"),
        ("spain", "ohio", "Pneumonia"),
        ("spain", "shenzhen", "tuberculosis"),
    ]
    assert [(pair.images, pair.others, pair.groups) for pair in pairs.pairs] == [
        (30, 40, 30),
        (30, 25, 25),
        (30, 30, 30),
    ]
    mean = scored.groupby("image_id")["p_Covid19"].mean()
    first = scored.drop_duplicates("image_id").set_index("image_id").loc[mean.index]
    for pair in pairs.pairs:
        of_covid = first["label"] == "Covid19"
        side = of_covid | (
            (first["source"] == pair.negative) & (first["label"].fillna(first["finding"]) == pair.finding)
        )
        assert pair.auc.value == pytest.approx(roc_auc_score(of_covid[side], mean[side]))
        assert pair.auc.low < pair.auc.value < pair.auc.high  # type: ignore[operator]
    assert pairs.mean.value == pytest.approx(np.mean([pair.auc.value for pair in pairs.pairs]))
    assert pairs.mean.low < pairs.mean.value < pairs.mean.high  # type: ignore[operator]


def test_a_pair_that_is_ranked_the_wrong_way_round_is_so_after_the_correction_over_all() -> None:
    by_finding = {pair.finding: pair for pair in found(frame([*SIDES, ("ohio", "Edema", None, 30, 4.0)])).pairs}
    assert by_finding["Edema"].reversed
    assert not by_finding["Normal"].reversed
    assert by_finding["Normal"].p_reversed == 1


def test_sources_of_one_origin_are_one_side() -> None:
    sides = [*SIDES, ("ohio-2", "Normal", None, 12, 0.0), ("madrid", "Covid19", None, 10, 1.0)]
    pairs = found(frame(sides), {"ohio": "USA", "ohio-2": "USA", "spain": "Spain", "madrid": "Spain"})
    assert names(pairs)[0] == ("Spain", "USA", "Normal")
    assert (pairs.pairs[0].images, pairs.pairs[0].others) == (40, 52)


def test_a_pair_within_one_source_is_listed_and_counts_for_no_mean() -> None:
    pairs = found(frame([*SIDES[:2], ("spain", "Normal", None, 30, 0.0)]))
    assert names(pairs) == [("spain", "ohio", "Normal"), ("spain", "spain", "Normal")]
    assert [pair.within for pair in pairs.pairs] == [False, True]
    assert pairs.counted == pairs.pairs[:1]
    assert pairs.mean.value == pytest.approx(pairs.pairs[0].auc.value)
    alone = found(frame([SIDES[0], ("spain", "Normal", None, 30, 0.0)]))
    assert alone.pairs[0].auc.value is not None
    assert (alone.counted, alone.mean.value) == ((), None)


def test_pairs_of_few_patients_count_only_where_all_have_few() -> None:
    few = ("shenzhen", None, "tuberculosis", 19, 0.5)
    pairs = found(frame([*SIDES[:2], few]))
    assert [pair.finding for pair in pairs.counted] == ["Normal"]
    assert [pair.small for pair in pairs.pairs] == [False, True]
    assert [pair.finding for pair in found(frame([SIDES[0], few])).counted] == ["tuberculosis"]


def test_findings_of_few_patients_are_one_side() -> None:
    rare: Sides = [("shenzhen", None, name, 9, 0.0) for name in ("SARS", "aspergillosis", "")]
    pairs = found(frame([*SIDES, *rare]))
    of_shenzhen = {pair.finding: pair.others for pair in pairs.pairs if pair.negative == "shenzhen"}
    assert of_shenzhen == {OTHER_FINDINGS: 27, "tuberculosis": 30}


def test_several_images_of_a_patient_are_one_patient() -> None:
    scored = frame(SIDES[:2])
    scored["group_id"] = scored["group_id"].str[:-1]  # ten images each
    (pair,) = found(scored).pairs
    assert (pair.images, pair.others, pair.groups) == (30, 40, 3)
    assert pair.small


def test_the_difference_to_another_strategy_is_of_the_same_patients() -> None:
    scored = frame(SIDES, ("scratch", "off-the-shelf"), raised=1.0)
    first, second = external_pairs(scored, {}, set(), ["scratch", "off-the-shelf"], "scratch", seed=1)
    assert (first.strategy, second.strategy) == ("scratch", "off-the-shelf")
    assert first.difference.value is None
    assert second.difference.value == pytest.approx(second.mean.value - first.mean.value)  # type: ignore[operator]
    assert second.difference.excludes_zero
    same = external_pairs(frame(SIDES, ("scratch", "robust")), {}, set(), ["scratch", "robust"], "scratch", seed=1)[1]
    assert (same.difference.value, same.difference.low, same.difference.high) == (0, 0, 0)


def test_an_area_of_one_has_bounds_of_the_number_of_patients() -> None:
    (pair,) = found(frame([("spain", "Covid19", None, 30, 30.0), SIDES[1]])).pairs
    assert pair.auc.value == pair.auc.high == 1
    assert pair.auc.low == pytest.approx(0.025 ** (1 / 30))


@pytest.mark.parametrize("sides", [SIDES[:1], SIDES[1:]])
def test_there_are_no_pairs_without_covid19_or_without_other_images(sides: Sides) -> None:
    assert external_pairs(frame(sides), {}, set(), ["scratch"], "scratch", seed=1) == []


def test_a_pair_with_an_origin_that_was_trained_on_does_not_count() -> None:
    pairs = found(frame(SIDES), {"shenzhen": "Shenzhen No. 3"}, frozenset({"Shenzhen No. 3"}))
    assert [pair.studied for pair in pairs.pairs] == [True, False, False]
    assert names(pairs)[0] == ("spain", "Shenzhen No. 3", "tuberculosis")
    assert pairs.counted == pairs.pairs[1:]
    none = found(frame(SIDES), {}, frozenset({"spain"}))
    assert (none.counted, none.mean.value) == ((), None)
