"""The model card: purpose and limits first, every rate out-of-fold, and marked gaps for the publisher."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from cxr_platform.champion.model_card import (
    ReportedLimits,
    another_won,
    metrics_table,
    model_card,
    model_card_head,
    predictive_value_table,
    reported_limits,
    subgroup_table,
    winner_sentence,
)
from cxr_platform.champion.out_of_fold import OutOfFold, out_of_fold
from cxr_platform.domain.study import read_study
from cxr_platform.evaluation.formatting import rate, text
from cxr_platform.evaluation.limits import INTERVALS
from cxr_platform.evaluation.predictions import load_predictions
from cxr_platform.evaluation.report_inputs import manifest_images
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT
from cxr_platform.evaluation.study_results import StudyResults, WinnerDecision, compute_study_results
from tests.champion.builders import COUNTS, HASH, champion_inputs, made, made_study
from tests.registry.builders import STUDY, changed, make_bundle

HEADINGS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
    "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
]  # fmt: skip
LIMITS = ReportedLimits("Edema only from nih.", "No: the corner tells the class.", ("Leakage makes them too high.",))
EQUAL = {"off-the-shelf": 2.0, "scratch": 2.0}
ANSWER = {
    "lines": [{"title": "Best strategy", "text": "No."}, {"title": "Credibility", "text": "No: a probe knows it."}],
    "limits": [INTERVALS, "Leakage makes them too high."],
}


@cache
def performance_of(strategy: str) -> OutOfFold:
    parts = champion_inputs(strategy=strategy)
    return out_of_fold(parts.study, parts.predictions, strategy)


def card_of(
    strategy: str = "scratch", study: Path | None = None, limits: ReportedLimits = LIMITS, *, synthetic: bool = False
) -> str:
    parts = champion_inputs(study, strategy=strategy)
    performance = out_of_fold(parts.study, parts.predictions, strategy)
    bundle = make_bundle(
        "v7",
        synthetic=synthetic,
        study=changed(STUDY, manifest_hash=HASH, strategies=("off-the-shelf", "scratch")),
        strategy=strategy,
        preprocessing=parts.preprocessing,
        model=parts.profile.model,
        temperature=performance.temperature,
        operating_point=performance.operating_point,
    )
    return model_card(bundle, performance, parts.predictions, manifest_images(parts.manifest).facts, limits)


@pytest.fixture(scope="module")
def usual() -> str:
    return card_of()


def test_the_headings_are_those_of_mitchell_et_al(usual: str) -> None:
    assert [line[3:] for line in usual.splitlines() if line.startswith("## ")] == HEADINGS


def test_the_head_states_purpose_rates_and_credibility(usual: str) -> None:
    head = model_card_head(usual)
    parts = champion_inputs()
    performance = out_of_fold(parts.study, parts.predictions, "scratch")
    assert head.startswith("# Model card: v7, Training from scratch\n\n**For research, not for diagnosis.**")
    assert "This strategy, training from scratch, won the study." in head
    rates = performance.operating_point.decisions
    for interval in (
        performance.measures.pooled["accuracy_7_class"],
        *(rates.true_positive, rates.false_negative, rates.true_negative, rates.false_positive),
    ):
        assert rate(interval) in head
    assert f"{rate(rates.indeterminate)} of all images are indeterminate" in head
    assert "Edema only from nih." in head
    assert "No: the corner tells the class." in head
    assert "SYNTHETIC" not in usual


def test_the_head_has_the_metrics_of_both_if_another_strategy_won() -> None:
    parts = champion_inputs()
    figures = {
        name: out_of_fold(parts.study, parts.predictions, name).measures.pooled for name in ("scratch", "off-the-shelf")
    }
    head = model_card_head(card_of("off-the-shelf"))
    assert "**Another strategy won the study: training from scratch, 7-class accuracy" in head
    for pooled in figures.values():
        for name in ("accuracy_7_class", "sensitivity", "specificity"):
            assert rate(pooled[name]) in head


def test_tied_strategies_share_the_first_place(tmp_path: Path) -> None:
    study = made_study(tmp_path, EQUAL)
    frame = pd.read_parquet(study / "predictions.parquet")
    ours = frame[frame["strategy"] == "scratch"]
    both = pd.concat([ours, ours.assign(strategy="off-the-shelf")])
    both.to_parquet(study / "predictions.parquet", index=False)
    assert "shares the first place of the study with off-the-shelf features" in model_card_head(
        card_of("scratch", study)
    )


def test_the_only_strategy_of_a_study_has_not_won(tmp_path: Path) -> None:
    head = model_card_head(card_of("scratch", made_study(tmp_path, {"scratch": 2.0})))
    assert "The study has no other strategy than this one" in head
    assert "won the study" not in head


def test_synthetic_images_are_marked_first() -> None:
    assert card_of(synthetic=True).splitlines()[4].startswith("**SYNTHETIC IMAGES**: this model was trained")


def test_without_a_report_the_credibility_is_not_known() -> None:
    head = model_card_head(card_of(limits=ReportedLimits("", None, ())))
    assert "believed?** Not known: when this model card was written there was no report" in head
    assert "Sources" not in head


def test_metrics_have_intervals_and_subgroups_have_numbers_of_images(usual: str) -> None:
    parts = champion_inputs()
    pooled = out_of_fold(parts.study, parts.predictions, "scratch").measures.pooled
    for name in ("balanced_accuracy", "roc_auc", "brier"):
        assert text(pooled[name]) in usual
    factors = usual.split("## Factors")[1].split("## Metrics")[0]
    assert "| source | actualmed |" in factors
    assert "| view | AP |" in factors
    assert "n = 168 |" in factors


def test_the_decision_rule_is_stated(usual: str) -> None:
    parts = champion_inputs()
    performance = out_of_fold(parts.study, parts.predictions, "scratch")
    metrics = usual.split("## Metrics")[1].split("## Evaluation")[0]
    assert (
        f"positive at a Covid19 probability of {performance.operating_point.zone[1]:.4f} or more, "
        f"negative below {performance.operating_point.zone[0]:.4f}" in metrics
    )
    assert f"of the threshold {performance.operating_point.threshold:.4f}" in metrics
    assert rate(performance.operating_point.specificity) in metrics


def test_the_decision_rule_has_the_gate_of_a_strategy_that_has_one(usual: str) -> None:
    parts = champion_inputs(strategy="scratch")
    gated = replace(parts.predictions, indeterminate={"scratch": parts.predictions.fold == 0})
    performance = out_of_fold(parts.study, gated, "scratch")
    bundle = make_bundle("v7", strategy="scratch", study=changed(STUDY, manifest_hash=HASH))
    made_card = model_card(bundle, performance, gated, manifest_images(parts.manifest).facts, LIMITS)
    (rule,) = [line for line in made_card.splitlines() if line.startswith("- Decision rule")]
    assert rule.endswith("within the origins that have Covid19 and other images does not.")
    assert "within the origins that have Covid19" not in usual


def test_gaps_for_the_publisher_are_marked(usual: str) -> None:
    assert usual.count("**OPEN**") == 2


def test_the_limits_in_the_report_are_among_the_caveats(usual: str) -> None:
    assert "  - Leakage makes them too high." in usual.split("## Caveats")[1]


def test_the_markdown_has_no_placeholders_or_paths(usual: str) -> None:
    assert "\n\n\n" not in usual
    assert "{{" not in usual
    assert "None" not in usual
    assert usual.endswith("\n")
    assert not usual.endswith("\n\n")
    assert made().study.parent.as_posix() not in usual


def with_decision(performance: OutOfFold, decision: WinnerDecision, monkeypatch: pytest.MonkeyPatch) -> OutOfFold:
    monkeypatch.setattr(StudyResults, "decision", property(lambda _: decision))
    return replace(performance, winner=performance.winner if decision.winner != performance.strategy else None)


def test_the_winner_is_stated() -> None:
    assert winner_sentence(performance_of("scratch")) == "This strategy, training from scratch, won the study."
    assert not another_won(performance_of("scratch"))


def test_another_winner_is_named_with_the_metrics_of_both() -> None:
    performance = performance_of("off-the-shelf")
    assert another_won(performance)
    sentence = winner_sentence(performance).replace("\N{NO-BREAK SPACE}", " ")
    assert sentence.startswith("Another strategy won the study: training from scratch, 7-class accuracy 74.40 %")
    assert "This model was trained by off-the-shelf features: 7-class accuracy 44.05 %" in sentence


@pytest.mark.parametrize("strategy", ["scratch", "off-the-shelf"])
def test_strategies_that_are_not_significantly_different_share_the_first_place(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = WinnerDecision("off-the-shelf", "scratch", 0.0, "nothing", 0, ("scratch",))
    performance = with_decision(performance_of(strategy), level, monkeypatch)
    other = {"scratch": "off-the-shelf features", "off-the-shelf": "training from scratch"}[strategy]
    assert winner_sentence(performance).endswith(f"shares the first place of the study with {other}.")
    assert not another_won(performance)


def test_the_only_strategy_of_a_study_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    performance = with_decision(
        performance_of("scratch"), WinnerDecision("scratch", None, None, "nothing", None), monkeypatch
    )
    assert winner_sentence(performance) == "The study has no other strategy than this one, training from scratch."


def results_of(folder: Path):
    study = read_study(folder)
    return compute_study_results(study, load_predictions(folder, study))


def write_results(folder: Path, **study: object) -> None:
    known = json.loads((folder / "study.json").read_text())
    state = {"started": known["started"], "strategies": known["strategies"], **study}
    tree = {"study": state, "manifest": {"content_hash": "b3f0c4de"}, "summary": ANSWER}
    (folder / "results.json").write_text(json.dumps(tree))


def test_the_limits_of_the_report_are_repeated(tmp_path: Path) -> None:
    folder = made_study(tmp_path)
    write_results(folder)
    limits = reported_limits(folder, results_of(folder))
    assert limits.credibility == "No: a probe knows it."
    assert limits.limits == ("Leakage makes them too high.",)


@pytest.mark.parametrize("change", [{"started": "2020-01-01"}, {"strategies": ["scratch"]}])
def test_a_report_of_another_state_of_the_study_is_ignored(tmp_path: Path, change: dict[str, object]) -> None:
    folder = made_study(tmp_path)
    write_results(folder, **change)
    assert reported_limits(folder, results_of(folder)).credibility is None


@pytest.mark.parametrize("content", [None, "no JSON", "[]", "{}"])
def test_confounding_needs_no_report(tmp_path: Path, content: str | None) -> None:
    folder = made_study(tmp_path)
    if content is not None:
        (folder / "results.json").write_text(content)
    limits = reported_limits(folder, results_of(folder))
    assert (limits.credibility, limits.limits) == (None, ())
    assert limits.confounding.startswith(
        "Edema, Effusion, Emphysema, Fibrosis only from nih; Pneumonia only from kermany"
    )


@pytest.mark.parametrize("summary", [[], "text", {"lines": [{}]}, {"limits": None}])
def test_a_damaged_summary_is_no_report(tmp_path: Path, summary: object) -> None:
    folder = made_study(tmp_path)
    write_results(folder)
    tree = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**tree, "summary": summary}))
    limits = reported_limits(folder, results_of(folder))
    assert (limits.credibility, limits.limits) == (None, ())


def test_without_a_class_of_a_single_source_there_is_no_warning() -> None:
    results = results_of(made().study)
    counts = {label: {"east": 3, "west": 3} for label in results.counts}
    object.__setattr__(results, "counts", counts)
    assert reported_limits(made().study, results).confounding == ""


def test_the_metrics_of_the_winner_are_beside_those_of_another_strategy_only() -> None:
    own, both = metrics_table(performance_of("scratch")), metrics_table(performance_of("off-the-shelf"))
    assert own.columns == ("Training from scratch (95 % interval)",)
    assert both.columns == ("Off-the-shelf features (95 % interval)", "Training from scratch (95 % interval)")
    assert [row.values[1] for row in both.rows] == [row.values[0] for row in own.rows]
    assert len(own.rows) == len(FIGURES_OF_MERIT)


def test_predictive_values_follow_from_sensitivity_and_specificity() -> None:
    point = performance_of("scratch").operating_point
    detected, missed = point.sensitivity.value * 0.05, (100 - point.sensitivity.value) * 0.05
    spared, alarms = point.specificity.value * 0.95, (100 - point.specificity.value) * 0.95
    row = next(row for row in predictive_value_table(performance_of("scratch")).rows if row.labels == ("5 %",))
    assert row.values == pytest.approx((100 * detected / (detected + alarms), 100 * spared / (spared + missed)))


def test_subgroups_are_by_source_and_by_the_attributes_in_the_manifest() -> None:
    parts = champion_inputs()
    table = subgroup_table(performance_of("scratch"), parts.predictions, manifest_images(parts.manifest).facts)
    assert table is not None
    assert {row.labels[0] for row in table.rows} == {"source", "view", "all"}
    assert str(table.rows[-1].values[0]).endswith(f"n = {sum(COUNTS.values())}")


def test_images_without_subgroups_have_no_table() -> None:
    parts = champion_inputs()
    images = manifest_images(parts.manifest).facts.assign(view="PA")
    parts.predictions.source[:] = "one"
    assert subgroup_table(performance_of("scratch"), parts.predictions, images) is None
