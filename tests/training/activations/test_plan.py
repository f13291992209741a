from pathlib import Path

import pytest

from cxr_platform.config import Storage
from cxr_platform.training.activations.files import Recomputed
from cxr_platform.training.activations.plan import choose_storages, plan_activations
from cxr_platform.training.activations.storage import Room
from cxr_platform.training.study import StudyRun
from tests.recorded_progress import RecordedProgress
from tests.training.builders import begin, tiny_profile, tiny_study

CUTS = ("features", "block_15")
LARGE, LITTLE = Room(1e9, 1e9, 1e9), Room(0.0, 0.0, 1e9)
"""Room in memory, and only on the disk."""


@pytest.fixture
def study(tmp_path: Path) -> StudyRun:
    study = tiny_study(tmp_path, ("off-the-shelf", "fine-tuning-1"))
    study.folder.start(study.plan)
    return study


def chosen(study: StudyRun, cuts: tuple[str, ...], room: Room) -> tuple[dict[str, Storage], list[str]]:
    progress = RecordedProgress()
    storages = choose_storages(study, cuts, room, progress, None)
    assert study.folder.record().activations.items() >= storages.items()
    return storages, progress.messages


def test_cuts_that_a_later_command_adds_are_kept_where_they_fit(study: StudyRun) -> None:
    assert chosen(study, ("features",), LARGE)[0] == {"features": "memory"}
    begin(study, "off-the-shelf")
    assert chosen(study, ("block_15",), LITTLE)[0] == {"block_15": "files"}
    both, messages = chosen(study, CUTS, LARGE)
    assert both == {"features": "memory", "block_15": "memory"}  # no trial of the latter has begun
    assert len(messages) == 2
    begin(study, "fine-tuning-1")
    assert chosen(study, CUTS, LARGE)[0] == both


def test_those_that_are_kept_leave_less_room_for_others(study: StudyRun) -> None:
    features = 2 * 56 * 1280 * 2.0
    assert chosen(study, ("features",), LARGE)[0] == {"features": "memory"}
    begin(study, "off-the-shelf")
    assert chosen(study, CUTS, Room(features, 1e9, 1e9))[0] == {"features": "memory", "block_15": "files"}


def test_what_no_longer_fits_is_kept_elsewhere_and_a_message_says_what_follows(study: StudyRun) -> None:
    chosen(study, ("features",), LARGE)
    begin(study, "off-the-shelf")
    storages, (message,) = chosen(study, ("features",), LITTLE)
    assert storages == {"features": "files"}
    assert "in memory before: trials that have begun start from their first epoch" in message


def test_a_changed_setting_is_followed_and_a_message_says_what_follows(study: StudyRun, tmp_path: Path) -> None:
    chosen(study, ("features",), LARGE)
    begin(study, "off-the-shelf")
    changed = tiny_study(tmp_path, ("off-the-shelf",), tiny_profile(**{"resources.activations": "recompute"}))
    storages, (message,) = chosen(changed, ("features",), LARGE)
    assert storages == {"features": "recompute"}
    assert "in memory before" in message


def test_each_cut_is_planned_where_it_is_kept(study: StudyRun) -> None:
    plan = plan_activations(study, CUTS, {"features": "memory", "block_15": "files"})
    assert [(part.task.cuts, part.files is None) for part in plan.parts] == [(CUTS[:1], True), (CUTS[1:], False)]
    assert list(plan.elsewhere) == ["block_15"]
    again = plan_activations(study, CUTS, {"features": "recompute", "block_15": "memory"})
    assert again.elsewhere == {"features": Recomputed()}
