"""A model card repeats what the report found, if it is a report of the study as it is."""

import json
from pathlib import Path

import pytest

from cxr_platform.champion.reported import reported
from cxr_platform.domain.study import read_study
from cxr_platform.evaluation.predictions import load_predictions
from cxr_platform.evaluation.study_results import compute_study_results
from cxr_platform.evaluation.summary import INTERVALS
from tests.champion.builders import made, made_study

ANSWER = {
    "lines": [{"title": "What won", "text": "No."}, {"title": "Can it be believed", "text": "No: a probe knows it."}],
    "limits": [INTERVALS, "Leakage makes them too high."],
}


def outcome_of(folder: Path):
    study = read_study(folder)
    return compute_study_results(study, load_predictions(folder, study))


def write_results(folder: Path, **study: object) -> None:
    known = json.loads((folder / "study.json").read_text())
    told = {"started": known["started"], "strategies": known["strategies"], **study}
    tree = {"study": told, "manifest": {"content_hash": "b3f0c4de"}, "answer": ANSWER}
    (folder / "results.json").write_text(json.dumps(tree))


def test_what_the_report_says_is_repeated(tmp_path: Path) -> None:
    folder = made_study(tmp_path)
    write_results(folder)
    found = reported(folder, outcome_of(folder))
    assert found.belief == "No: a probe knows it."
    assert found.limits == ("Leakage makes them too high.",)


@pytest.mark.parametrize("change", [{"started": "2020-01-01"}, {"strategies": ["scratch"]}])
def test_a_report_of_another_state_of_the_study_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    folder = made_study(tmp_path)
    write_results(folder, **change)
    assert reported(folder, outcome_of(folder)).belief is None


@pytest.mark.parametrize("content", [None, "no JSON", "[]", "{}"])
def test_without_a_report_the_sources_still_tell(tmp_path: Path, content: str | None) -> None:
    folder = made_study(tmp_path)
    if content is not None:
        (folder / "results.json").write_text(content)
    found = reported(folder, outcome_of(folder))
    assert (found.belief, found.limits) == (None, ())
    assert found.confounding.startswith(
        "Edema, Effusion, Emphysema, Fibrosis only from nih; Pneumonia only from kermany"
    )


def test_no_class_of_a_single_source_needs_no_warning() -> None:
    outcome = outcome_of(made().study)
    counts = {label: {"east": 3, "west": 3} for label in outcome.counts}
    object.__setattr__(outcome, "counts", counts)
    assert reported(made().study, outcome).confounding == ""
