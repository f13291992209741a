"""Figures of predictions that are made up, for a study of two strategies."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from cxr_platform.domain.strategies import ROBUST
from pipelines.evaluation_figures import FIGURES_CSV, FIGURES_MD, PAIRS_CSV, PAIRS_MD, SHARES_CSV, write_figures
from tests.evaluation.planted import STRATEGY, predictions
from tests.evaluation.probed import LABELS, SOURCES, unseen_frame
from tests.study_records import manifest_facts, study_record

COVID = ["Covid19"] * 21 + ["Normal"] * 4


def workspace(*strategies: str) -> Any:
    """A study of `east` and `west` in which every answer is right; the first strategy is the winner."""
    scored = predictions(SOURCES, LABELS)
    scored = replace(scored, probability=dict.fromkeys(strategies, scored.probability[STRATEGY]))
    study = study_record(name="planted", strategies=strategies, manifest=manifest_facts())
    return SimpleNamespace(study=study, predictions=scored, winner=strategies[0])


def images(
    label: str | None, called: list[str], *strategies: str, source: str, finding: str | None = None
) -> pd.DataFrame:
    frame = unseen_frame([str(label)] * len(called), {(s, fold): called for s in strategies for fold in (0, 1)})
    names = {name: f"{source}-{label}-" + frame[name] for name in ("image_id", "group_id")}
    return frame.assign(label=label, source=source, finding=finding, **names)


def unseen(*strategies: str) -> pd.DataFrame:
    return pd.concat(
        [
            images("Covid19", COVID, *strategies, source="spain"),
            images("Normal", ["Normal"] * 15 + ["Covid19"] * 10, *strategies, source="ohio"),
            images(None, ["Covid19"] * 24, *strategies, source="shenzhen", finding="tuberculosis"),
        ]
    )


def test_the_winner_and_robust_are_printed_and_all_strategies_are_in_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strategies = "off-the-shelf", STRATEGY, ROBUST
    write_figures(tmp_path, unseen(*strategies), workspace(*strategies), {}, synthetic=False)
    output = capsys.readouterr().out
    assert "| AUC, off-the-shelf | AUC, robust |" in output
    assert "AUC, scratch" not in output
    assert "| ohio | Normal | 25 | 40.00 (" in output
    assert "| Covid19 | 100.00 (" in output  # what tuberculosis is called
    assert "24 of the 24 images of shenzhen (tuberculosis, none of the seven classes) are called Covid19" in output
    assert "the worst is Covid19 of spain against tuberculosis of shenzhen: AUC 0.420" in output
    for name in (FIGURES_CSV, SHARES_CSV, PAIRS_CSV):
        assert set(pd.read_csv(tmp_path / name)["Strategy"]) == {*strategies}
    for name in (FIGURES_MD, PAIRS_MD):
        assert all(strategy in (tmp_path / name).read_text() for strategy in strategies)
    assert (tmp_path / PAIRS_MD).read_text().count("mean AUC of Covid19") == 3


def test_images_of_another_disease_alone_have_shares_and_no_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = images(None, ["Covid19"] * 3, STRATEGY, source="shenzhen", finding="tuberculosis")
    write_figures(tmp_path, frame, workspace(STRATEGY), {}, synthetic=True)
    assert "No AUC of Covid19: none of the images are of Covid19." in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == [FIGURES_MD, SHARES_CSV]
    assert "SYNTHETIC IMAGES" in (tmp_path / FIGURES_MD).read_text()


def test_findings_of_few_patients_are_in_no_table_but_in_the_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [
        images(None, ["Covid19"] * count, STRATEGY, source="shenzhen", finding=finding).assign(
            image_id=lambda frame, finding=finding: finding + frame["image_id"]
        )
        for finding, count in (("tuberculosis", 24), ("SARS", 3))
    ]
    write_figures(tmp_path, pd.concat(frames), workspace(STRATEGY), {}, synthetic=False)
    output = capsys.readouterr().out
    assert "| shenzhen | tuberculosis | 24 |" in output
    assert "SARS" not in output
    assert set(pd.read_csv(tmp_path / SHARES_CSV)["Class or finding"]) == {"all findings", "tuberculosis", "SARS"}


def test_images_of_covid19_alone_have_no_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = images("Covid19", COVID, STRATEGY, source="spain")
    write_figures(tmp_path, frame, workspace(STRATEGY), {}, synthetic=False)
    assert "No AUC of Covid19: all of the images are of Covid19." in capsys.readouterr().out
    assert (tmp_path / FIGURES_CSV).exists()


def test_sources_of_an_origin_of_the_study_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_figures(tmp_path, unseen(STRATEGY), workspace(STRATEGY), {"ohio": "west"}, synthetic=False)
    output = capsys.readouterr().out
    assert "Not of another hospital: the study was trained on other images of west." in output
    area = r"[\d.]+ \([\d.]+ to [\d.]+\)"
    assert re.search(rf"\|  \| west \| Normal \| {area} \| 25 \| 25 \| 25 \| studied origin \|", output)
