import csv
import io
from dataclasses import replace

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.external_tables import (
    classes_table,
    pair_rows_table,
    pairs_sentence,
    pairs_table,
    shares_table,
    shown_pairs,
)
from cxr_platform.evaluation.findings import ClassAnswers, ExternalPair, OutsideFinding
from cxr_platform.evaluation.statistics.external_pairs import ExternalPairs
from cxr_platform.evaluation.table import to_csv, to_markdown
from cxr_platform.labels import CLASSES

NO_DIFFERENCE = Interval(None, ratio=True, signed=True)


def pair(
    negative: str, finding: str, auc: float, *, groups: int = 30, p: float = 1.0, studied: bool = False
) -> ExternalPair:
    interval = Interval(auc, auc - 0.1, auc + 0.1, ratio=True)
    return ExternalPair(
        positive="spain", negative=negative, finding=finding, images=40, others=50, groups=groups, auc=interval,
        p_reversed=p, studied=studied,
    )  # fmt: skip


ACROSS = (pair("ohio", "Normal", 0.7), pair("shenzhen", "tuberculosis", 0.2, p=0.001))
SMALL, WITHIN = pair("ohio", "Edema", 0.1, groups=5), pair("spain", "Normal", 0.9)
STUDIED = pair("nih", "Mass", 0.99, studied=True)
FOUND = ExternalPairs("scratch", (*ACROSS, SMALL, WITHIN), ACROSS, Interval(0.45, 0.4, 0.5, ratio=True), NO_DIFFERENCE)
OTHER = ExternalPairs(
    "robust",
    (pair("ohio", "Normal", 0.8), pair("shenzhen", "tuberculosis", 0.6), SMALL, WITHIN),
    (pair("ohio", "Normal", 0.8), pair("shenzhen", "tuberculosis", 0.6)),
    Interval(0.7, 0.6, 0.8, ratio=True),
    Interval(0.25, 0.2, 0.3, ratio=True, signed=True),
)


def shares(**percent: float) -> tuple[Interval, ...]:
    return tuple(Interval(percent.get(label, 0.0)) for label in CLASSES)


def answers(strategy: str, label: str, **percent: float) -> ClassAnswers:
    return ClassAnswers("ohio", label, strategy, 50, 30, shares(**percent), shares(**{label: 95.0}))


NORMAL = answers("scratch", "Normal", Covid19=67.0, Normal=10.0, Edema=23.0)


def test_pairs_have_a_row_each_and_a_column_for_each_strategy_then_their_mean() -> None:
    lines = to_markdown(pairs_table([FOUND, OTHER], "Pairs", synthetic=False)).splitlines()
    assert lines[2] == (
        "| Covid19 of | Other images of | Their class or finding | AUC, scratch | AUC, robust "
        "| Covid19 | other images | patients | counts |"
    )
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert rows[0].startswith(
        "| spain | ohio | Normal | 0.700 (0.600 to 0.800) | 0.800 (0.700 to 0.900) | 40 | 50 | 30 | yes"
    )
    assert [row.split(" | ")[8].removesuffix(" |") for row in rows] == [
        "yes",
        "yes",
        "few patients",
        "one source",
        "2 pairs",
    ]
    assert rows[-1].startswith("| mean |  |  | 0.450 (0.400 to 0.500) | 0.700 (0.600 to 0.800) | – | – | – | 2 pairs")
    assert "20 patients or more on both sides" in lines[-1]


def test_the_winner_and_robust_are_shown_first() -> None:
    third = replace(FOUND, strategy="off-the-shelf")
    assert shown_pairs([FOUND, third, OTHER], "scratch") == [FOUND, OTHER]
    assert shown_pairs([third, FOUND], "off-the-shelf") == [third]


def test_programs_get_a_row_for_each_strategy_and_pair() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(pair_rows_table([FOUND, OTHER], synthetic=False)))))
    assert len(rows) == 8
    assert {row["Strategy"] for row in rows} == {"scratch", "robust"}
    assert (rows[1]["Other images of"], rows[1]["AUC"], rows[1]["AUC, low"], rows[1]["counts"]) == (
        "shenzhen", "0.2000", "0.1000", "yes",
    )  # fmt: skip


def test_the_mean_the_worst_pair_and_pairs_the_wrong_way_round_are_one_sentence_each() -> None:
    assert pairs_sentence(FOUND) == (
        "Training from scratch: mean AUC of Covid19 0.450 (0.400 to 0.500) over 2 pairs of two sources; the worst is "
        "Covid19 of spain against tuberculosis of shenzhen: AUC 0.200 (0.100 to 0.300). 1 pair is significantly ranked "
        "the wrong way round."
    )
    assert "2 pairs of two sources, +0.250 (+0.200 to +0.300) against the winner's; the worst" in pairs_sentence(OTHER)


def test_a_sentence_says_if_all_pairs_are_of_few_patients_or_of_one_source() -> None:
    few = ExternalPairs("scratch", (SMALL,), (SMALL,), SMALL.auc, NO_DIFFERENCE)
    assert "over 1 pair of two sources, of which none has 20 patients on both sides; the worst" in pairs_sentence(few)
    alone = ExternalPairs("scratch", (WITHIN, STUDIED), (), Interval(None, ratio=True), NO_DIFFERENCE)
    assert pairs_sentence(alone).endswith("no pair is of two sources that are both of origins new to the study.")
    assert "| studied origin |" in to_markdown(pairs_table([alone], "Pairs", synthetic=False))
    assert "mean" not in to_markdown(pairs_table([alone], "Pairs", synthetic=False)).split("AUC of Covid19")[0]


def test_a_class_of_a_source_has_what_it_is_called_covid19_and_right_beside_cross_validation() -> None:
    text = to_markdown(classes_table([NORMAL], "Classes", synthetic=True))
    assert "| ohio | Normal | 50 | 67.00 | 0.00 | 10.00 | 95.00 | Covid19 |" in text
    assert "SYNTHETIC" in text
    several = to_markdown(classes_table([NORMAL, answers("robust", "Normal")], "Classes", synthetic=False))
    assert "| Source | Class | Strategy |" in several
    assert "|  | Normal | robust |" in several


def test_all_answers_are_in_one_table_for_classes_and_other_findings() -> None:
    tuberculosis = OutsideFinding(
        "shenzhen", "", True, "scratch", 60, 55, 30, shares(Covid19=50.0), Interval(2.0), True
    )
    rows = list(csv.DictReader(io.StringIO(to_csv(shares_table([NORMAL], [tuberculosis], synthetic=False)))))
    assert [(row["Source"], row["Class or finding"], row["images"], row["patients"]) for row in rows] == [
        ("ohio", "Normal", "50", "30"),
        ("shenzhen", "all findings", "60", "55"),
    ]
    assert [row["called Covid19 (%)"] for row in rows] == ["67.0000", "50.0000"]
    assert rows[0]["called Edema (%)"] == "23.0000"
