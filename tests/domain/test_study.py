import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.domain.study import (
    NO_FOLD,
    Hardware,
    TrialKey,
    read_study,
)
from cxr_platform.errors import StudyError
from tests.study_records import STARTED, manifest_facts, study_record, trial_record, trial_state, write_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_record(tmp_path / "study.json", study_record(strategies=("scratch", "off-the-shelf")))
    return tmp_path


def rewrite(folder: Path, **changes: object) -> None:
    """Change keys of study.json; a key with a dot is one of a table."""
    file = folder / "study.json"
    tree = json.loads(file.read_text())
    for name, value in changes.items():
        *tables, key = name.split("__")
        table = tree
        for part in tables:
            table = table[part]
        table[key] = value
    file.write_text(json.dumps(tree))


def test_a_trial_key_has_a_name_for_the_reader() -> None:
    assert str(TrialKey("scratch", 3)) == "scratch fold 3"
    assert str(TrialKey("scratch", NO_FOLD)) == "scratch on all images"


def test_a_study_of_an_earlier_version_had_the_activations_of_all_cuts_in_one_place(folder: Path) -> None:
    for stated, by_cut in {"files": {"features": "files"}, None: {}}.items():
        rewrite(folder, activations=stated)
        assert read_study(folder).activations == by_cut


def test_hardware_is_written_in_one_line() -> None:
    assert str(Hardware(processor="Xeon", processors=8)) == "8 × Xeon"
    gpus = ("RTX 4090", "H100", "RTX 4090")
    assert str(Hardware(processor="Xeon", processors=8, gpus=gpus)) == "8 × Xeon, 2 × RTX 4090, 1 × H100"


def test_a_study_is_read_as_it_was_written(folder: Path) -> None:
    study = read_study(folder)
    assert study == study_record(strategies=("scratch", "off-the-shelf"))
    assert study.profile == load_profile("quick")
    assert study.started == STARTED
    assert read_study(folder).to_json() == (folder / "study.json").read_bytes()


def test_strategies_are_in_the_order_of_the_paper(folder: Path) -> None:
    study = read_study(folder)
    assert study.strategies == ("off-the-shelf", "scratch")
    assert study.not_run == STRATEGY_NAMES[1:-1]
    assert study.trials()[:2] == [TrialKey("off-the-shelf", 0), TrialKey("off-the-shelf", 1)]
    assert len(study.trials()) == 2 * study.folds


@pytest.mark.parametrize("place", [".", "absent"])
def test_a_folder_without_a_study_is_refused_with_advice(tmp_path: Path, place: str) -> None:
    with pytest.raises(StudyError, match=r"study\.json.*no such file.*runs/NAME"):
        read_study(tmp_path / place)


def test_a_study_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").mkdir()
    with pytest.raises(StudyError, match=r"record of a study at .*study\.json"):
        read_study(tmp_path)


@pytest.mark.parametrize("content", ["{", "", "[]", "3", "{}", '{"identity": {}}'])
def test_a_damaged_study_is_refused_with_advice(folder: Path, content: str) -> None:
    (folder / "study.json").write_text(content)
    with pytest.raises(StudyError, match=r"study\.json.*run the study again"):
        read_study(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": "five"}, "folds: expected a whole number. Received: 'five'."),
        ({"folds": 1}, "folds: expected greater than or equal to 2. Received: 1."),
        ({"strategies": ["off-the-shelf", "magic"]}, "Received: 'magic'"),
        ({"strategies": []}, "strategies: expected "),
        ({"strategies": None}, "strategies: expected "),
        ({"protocol": "random"}, "protocol: expected 'grouped', 'paper' or 'origins'. Received: 'random'."),
        ({"manifest": {}}, "manifest: missing content_hash, path"),
        ({"manifest": None}, "manifest: expected a table"),
        ({"manifest__counts": {"Hernia": {"nih": 3}}}, "not Hernia"),
        ({"profile__folds": 1}, "profile.folds: expected "),
        ({"started": "yesterday"}, "started: expected "),
        ({"started": "2026-11-20T10:00:00"}, "started: expected "),
        ({"schema_version": 2}, "expected schema_version 1. Received: 2."),
        ({"manifst": 3}, "Did you mean 'manifest'?"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(StudyError, match=r"study\.json") as caught:
        read_study(folder)
    assert message in str(caught.value)


def test_counts_are_of_known_classes() -> None:
    assert manifest_facts(counts={"Covid19": {"cohen": 3}}).counts == {"Covid19": {"cohen": 3}}


def test_the_remaining_part_of_a_trial_follows_from_its_epochs() -> None:
    assert trial_state(epoch=1, epochs=4).remaining == 0.75
    assert trial_state(epoch=4, epochs=4).remaining == 0
    with pytest.raises(ValueError, match="an epoch of at most 4, not 5"):
        trial_state(epoch=5, epochs=4)


def test_times_have_a_time_zone() -> None:
    later = STARTED + timedelta(hours=1)
    assert trial_record(finished=later).finished == later
    with pytest.raises(ValueError, match="timezone"):
        trial_record(finished=later.replace(tzinfo=None))
