"""The model card: what a reader must know stands first, every figure is out-of-fold, what nobody knows stays open."""

from pathlib import Path

import pandas as pd
import pytest

from cxr_platform.champion.facts import out_of_fold
from cxr_platform.champion.model_card import model_card, model_card_head
from cxr_platform.champion.reported import Reported
from cxr_platform.evaluation.formatting import rate, text
from cxr_platform.evaluation.report_inputs import manifest_images
from tests.champion.builders import HASH, made, made_study, material
from tests.registry.builders import POINT, STUDY, changed, make_bundle

HEADINGS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
    "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
]  # fmt: skip
SAID = Reported("Edema only from nih.", "No: the corner tells the class.", ("Leakage makes them too high.",))
EQUAL = {"off-the-shelf": 2.0, "scratch": 2.0}


def card_of(
    strategy: str = "scratch", study: Path | None = None, said: Reported = SAID, *, synthetic: bool = False
) -> str:
    parts = material(study, strategy=strategy)
    facts = out_of_fold(parts.study, parts.predictions, strategy)
    bundle = make_bundle(
        "v7",
        synthetic=synthetic,
        study=changed(STUDY, manifest_hash=HASH, strategies=("off-the-shelf", "scratch")),
        strategy=strategy,
        preprocessing=parts.preprocessing,
        model=parts.profile.model,
        temperature=facts.temperature,
        operating_point=changed(POINT, threshold=facts.threshold, zone=facts.zone),
    )
    return model_card(bundle, facts, parts.predictions, manifest_images(parts.manifest).facts, said)


@pytest.fixture(scope="module")
def usual() -> str:
    return card_of()


def test_it_has_the_headings_of_mitchell_et_al_in_their_order(usual: str) -> None:
    assert [line[3:] for line in usual.splitlines() if line.startswith("## ")] == HEADINGS


def test_its_first_lines_say_what_it_is_not_for_what_it_reaches_and_whether_that_can_be_believed(usual: str) -> None:
    head = model_card_head(usual)
    parts = material()
    facts = out_of_fold(parts.study, parts.predictions, "scratch")
    assert head.startswith("# Model card: v7, Training from scratch\n\n**For research, not for diagnosis.**")
    assert "This strategy, training from scratch, won the study." in head
    for figure in (
        facts.measures.pooled["accuracy_7_class"],
        facts.decisions.true_positive,
        facts.decisions.true_negative,
    ):
        assert rate(figure) in head
    assert f"{rate(facts.decisions.indeterminate)} of all images it leaves undecided" in head
    assert "Edema only from nih." in head
    assert "No: the corner tells the class." in head
    assert "SYNTHETIC" not in usual


def test_where_another_strategy_won_the_first_lines_give_the_figures_of_both() -> None:
    parts = material()
    figures = {
        name: out_of_fold(parts.study, parts.predictions, name).measures.pooled for name in ("scratch", "off-the-shelf")
    }
    head = model_card_head(card_of("off-the-shelf"))
    assert "**Another strategy won the study: training from scratch, 7-class accuracy" in head
    for pooled in figures.values():
        for name in ("accuracy_7_class", "sensitivity", "specificity"):
            assert rate(pooled[name]) in head


def test_level_strategies_share_the_first_place(tmp_path: Path) -> None:
    study = made_study(tmp_path, EQUAL)
    frame = pd.read_parquet(study / "predictions.parquet")
    ours = frame[frame["strategy"] == "scratch"]
    both = pd.concat([ours, ours.assign(strategy="off-the-shelf")])
    both.to_parquet(study / "predictions.parquet", index=False)
    assert "shares the first place of the study with off-the-shelf features" in model_card_head(
        card_of("scratch", study)
    )


def test_an_only_strategy_beats_nobody(tmp_path: Path) -> None:
    head = model_card_head(card_of("scratch", made_study(tmp_path, {"scratch": 2.0})))
    assert "No other strategy was run in the study than this one" in head
    assert "won the study" not in head


def test_synthetic_images_are_said_before_anything_else() -> None:
    assert card_of(synthetic=True).splitlines()[4].startswith("**SYNTHETIC IMAGES**: a program drew")


def test_without_a_report_it_says_that_nobody_looked() -> None:
    head = model_card_head(card_of(said=Reported("", None, ())))
    assert "believed?** Not known: there was no report of the study" in head
    assert "Sources" not in head


def test_figures_stand_with_their_intervals_and_parts_of_the_images_with_their_numbers(usual: str) -> None:
    parts = material()
    pooled = out_of_fold(parts.study, parts.predictions, "scratch").measures.pooled
    for name in ("balanced_accuracy", "roc_auc", "brier"):
        assert text(pooled[name]) in usual
    factors = usual.split("## Factors")[1].split("## Metrics")[0]
    assert "| source | actualmed |" in factors
    assert "| view | AP |" in factors
    assert "n = 168 |" in factors


def test_the_decision_and_its_zone_are_explained_in_figures(usual: str) -> None:
    parts = material()
    facts = out_of_fold(parts.study, parts.predictions, "scratch")
    metrics = usual.split("## Metrics")[1].split("## Evaluation")[0]
    assert (
        f"positive from a Covid19 probability of {facts.zone[1]:.4f} on and negative below {facts.zone[0]:.4f}"
        in metrics
    )
    assert f"of the threshold {facts.threshold:.4f}" in metrics
    assert rate(facts.point.specificity) in metrics


def test_what_only_people_know_stays_open(usual: str) -> None:
    assert usual.count("**OPEN**") == 2


def test_the_limits_of_the_report_are_among_the_caveats(usual: str) -> None:
    assert "  - Leakage makes them too high." in usual.split("## Caveats")[1]


def test_it_is_clean_markdown(usual: str) -> None:
    assert "\n\n\n" not in usual
    assert "{{" not in usual
    assert "None" not in usual
    assert usual.endswith("\n")
    assert not usual.endswith("\n\n")
    assert made().study.parent.as_posix() not in usual
