"""Figures of `cxr evaluate`: rates of each source, answers by class, images of other diseases, and pairs of sources."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.evaluation.external_tables import (
    classes_table,
    pair_rows_table,
    pairs_sentence,
    pairs_table,
    shares_table,
    shown_pairs,
)
from cxr_platform.evaluation.findings import SMALL, OutsideFinding
from cxr_platform.evaluation.formatting import joined
from cxr_platform.evaluation.sections.external import external_table
from cxr_platform.evaluation.sections.outside import answers_table, findings_table, sentence, strategies_table
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.class_answers import class_answers
from cxr_platform.evaluation.statistics.external import external_findings
from cxr_platform.evaluation.statistics.external_pairs import external_pairs
from cxr_platform.evaluation.statistics.outside import outside_findings
from cxr_platform.evaluation.table import Table, to_csv, to_markdown
from cxr_platform.labels import POSITIVE_CLASS

if TYPE_CHECKING:
    import pandas as pd

    from cxr_platform.evidence.open_study import OpenStudy

FIGURES_CSV, FIGURES_MD, SHARES_CSV = "figures.csv", "figures.md", "shares.csv"
PAIRS_CSV, PAIRS_MD = "pairs.csv", "pairs.md"
FIGURE_FILES = (FIGURES_CSV, FIGURES_MD, SHARES_CSV, PAIRS_CSV, PAIRS_MD)


def write_figures(
    out: Path, frame: "pd.DataFrame", workspace: "OpenStudy", origins: Mapping[str, str], *, synthetic: bool
) -> None:
    """Write the figures of all strategies, the winner first, to `FIGURE_FILES`, and print those of the winner.

    `frame` has predictions for images with a `label` or, if they are of none of the seven classes, a `finding`.
    `origins` maps sources to the hospital or publication, where it is stated.
    """
    studied = workspace.study.manifest.origins_of(workspace.predictions.source)
    if again := sorted({origins.get(source, source) for source in frame["source"].unique()} & studied):
        print(f"Not of another hospital: the study was trained on other images of {joined(again)}.")
    _write_rates(out, frame, workspace, synthetic=synthetic)
    _write_pairs(out, frame, workspace, origins, studied, synthetic=synthetic)


def _winner_first(workspace: "OpenStudy") -> list[str]:
    return sorted(workspace.study.strategies, key=lambda strategy: strategy != workspace.winner)


def _write_rates(out: Path, frame: "pd.DataFrame", workspace: "OpenStudy", *, synthetic: bool) -> None:
    """Write and print rates, answers by class, and answers for images of none of the seven classes."""
    labelled, without_class = frame[frame["label"].notna()], frame[frame["finding"].notna()]
    strategies, seed = _winner_first(workspace), study_seed(workspace.study)
    answers = class_answers(labelled, workspace.predictions, strategies, seed)
    outside = outside_findings(without_class, workspace.predictions, strategies, seed)
    tables = []
    if answers:
        rates = external_findings(labelled, workspace.predictions, strategies, seed)
        of_winner = [rate for rate in rates if rate.strategy == workspace.winner]
        title = f"Unseen images by {workspace.winner}, the winner of {workspace.study.name}"
        print(to_markdown(external_table("figures", title, of_winner, labelled, synthetic=synthetic)))
        by_winner = [answer for answer in answers if answer.strategy == workspace.winner]
        print(to_markdown(classes_table(by_winner, f"Each class by {workspace.winner}", synthetic=synthetic)))
        whose = f"by the models of {workspace.study.name}"
        table = external_table("figures", f"Unseen images {whose}", rates, labelled, synthetic=synthetic)
        (out / FIGURES_CSV).write_text(to_csv(table), encoding="utf-8")
        tables += [table, classes_table(answers, f"Each class {whose}", synthetic=synthetic)]
    if outside:
        by_winner_tables = _outside_tables(
            [found for found in outside if found.strategy == workspace.winner], synthetic
        )
        print("\n".join(map(to_markdown, by_winner_tables)))
        for found in outside:
            if found.strategy == workspace.winner and found.whole:
                print(f"{sentence(found)}.\n")
        tables += [*by_winner_tables, strategies_table([found for found in outside if found.whole], synthetic)]
    (out / SHARES_CSV).write_text(to_csv(shares_table(answers, outside, synthetic=synthetic)), encoding="utf-8")
    (out / FIGURES_MD).write_text("\n".join(map(to_markdown, tables)), encoding="utf-8")
    print(f"All strategies: {out / FIGURES_MD}; the share called each class: {out / SHARES_CSV}")


def _outside_tables(of_winner: Sequence[OutsideFinding], synthetic: bool) -> list[Table]:
    """Return what the sources are called, and where there are several findings those of enough patients."""
    parts = [found for found in of_winner if not found.whole and not found.small]
    tables = [answers_table([found for found in of_winner if found.whole], synthetic)]
    note = f"Findings of fewer than {SMALL} patients are left out; {SHARES_CSV} has the most frequent of them."
    return [*tables, replace(findings_table(parts, synthetic), note=note)] if parts else tables


def _write_pairs(
    out: Path,
    frame: "pd.DataFrame",
    workspace: "OpenStudy",
    origins: Mapping[str, str],
    studied: Set[str],
    *,
    synthetic: bool,
) -> None:
    """Write the pairs of all strategies, and print those of the winner and of `robust`."""
    winner, name = workspace.winner, workspace.study.name
    found = external_pairs(frame, origins, studied, _winner_first(workspace), winner, study_seed(workspace.study))
    if not found:
        of_covid = (frame["label"] == POSITIVE_CLASS).any()
        print(f"No AUC of {POSITIVE_CLASS}: {'all' if of_covid else 'none'} of the images are of {POSITIVE_CLASS}.")
        return
    title = f"AUC of {POSITIVE_CLASS} for pairs of sources by the models of {name}"
    shown = shown_pairs(found, winner)
    print(to_markdown(pairs_table(shown, title, synthetic=synthetic)))
    print("\n".join(map(pairs_sentence, shown)), end="\n\n")
    (out / PAIRS_CSV).write_text(to_csv(pair_rows_table(found, synthetic=synthetic)), encoding="utf-8")
    sentences = "\n".join(f"- {pairs_sentence(pairs)}" for pairs in found)
    text = f"{to_markdown(pairs_table(found, title, synthetic=synthetic))}\n{sentences}\n"
    (out / PAIRS_MD).write_text(text, encoding="utf-8")
    print(f"Pairs of all strategies: {out / PAIRS_MD}")
