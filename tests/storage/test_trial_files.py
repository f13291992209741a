import json
from pathlib import Path

import pytest

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StorageError
from cxr_platform.storage import trial_files
from cxr_platform.storage.paths import parse_path
from cxr_platform.storage.trial_files import (
    list_trial_files,
    modified_at,
    read_trial_states,
    read_trials,
    read_trials_and_states,
    storage_time,
)
from tests.storage.object_store import folder, requests
from tests.study_records import trial_record, trial_state, write_record


def test_records_of_trials_are_read_by_key(tmp_path: Path) -> None:
    keys = [TrialKey("scratch", 1), TrialKey("off-the-shelf", 0)]
    for key in keys:
        write_record(tmp_path / "trials" / key.strategy / f"fold-{key.fold}" / "trial.json", trial_record(*key))
        running = tmp_path / "trials" / key.strategy / f"fold-{key.fold}.run" / "state.json"
        write_record(running, trial_state(*key))
    assert read_trials(tmp_path, keys) == {key: trial_record(*key) for key in sorted(keys)}
    assert read_trial_states(tmp_path, keys) == {key: trial_state(*key) for key in sorted(keys)}
    assert list(read_trials(tmp_path, keys)) == sorted(keys)
    assert read_trials(tmp_path, keys)[keys[0]].key == keys[0]  # type: ignore[union-attr]


def test_a_damaged_record_is_none_and_an_absent_one_is_left_out(tmp_path: Path) -> None:
    write_record(tmp_path / "trials/scratch/fold-0/trial.json", trial_record("scratch", 0)).write_text("{")
    keys = [TrialKey("scratch", 0), TrialKey("scratch", 1)]
    assert read_trials(tmp_path, keys) == {keys[0]: None}
    assert read_trials(tmp_path / "absent", keys) == {}


@pytest.mark.parametrize("version", [None, 2, "1"])
def test_a_record_of_another_schema_version_counts_as_damaged(tmp_path: Path, version: object) -> None:
    places = (
        (read_trials, trial_record("scratch", 0), tmp_path / "trials/scratch/fold-0/trial.json"),
        (read_trial_states, trial_state("scratch", 0), tmp_path / "trials/scratch/fold-0.run/state.json"),
    )
    for read, record, file in places:
        written = json.loads(write_record(file, record).read_text())
        assert written.pop("schema_version") == 1
        file.write_text(json.dumps(written if version is None else {**written, "schema_version": version}))
        assert read(tmp_path, [TrialKey("scratch", 0)]) == {TrialKey("scratch", 0): None}


@pytest.mark.parametrize(
    "place", ["scratch/fold-7", "scratch/fold-x", "scratch/.fold-0.abc", "magic/fold-0", "scratch/fold-00"]
)
def test_trials_that_are_not_wanted_are_left_out(tmp_path: Path, place: str) -> None:
    write_record(tmp_path / "trials" / place / "trial.json", trial_record("scratch", 0))
    assert read_trials(tmp_path, [TrialKey("scratch", 0)]) == {}


def test_a_record_that_vanishes_while_it_is_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanished(_: Path) -> bytes:
        raise FileNotFoundError

    write_record(tmp_path / "trials/scratch/fold-0.run/state.json", trial_state("scratch", 0))
    monkeypatch.setattr(Path, "read_bytes", vanished)
    assert read_trial_states(tmp_path, [TrialKey("scratch", 0)]) == {}


def write_trials(root: Path, finished: int, running: int) -> list[TrialKey]:
    keys = [TrialKey("scratch", fold) for fold in range(finished + running)]
    for key in keys[:finished]:
        (root / f"trials/scratch/fold-{key.fold}/trial.json").write_bytes(trial_record(*key).to_json())
        (root / f"trials/scratch/fold-{key.fold}/model.weights.h5").write_bytes(b"never read")
    for key in keys[finished:]:
        (root / f"trials/scratch/fold-{key.fold}.run/state.json").write_bytes(trial_state(*key).to_json())
    return keys


@pytest.mark.usefixtures("store")
def test_an_object_store_is_listed_once_and_each_record_is_one_request() -> None:
    root = folder("listed [once]")
    keys = write_trials(root, finished=5, running=2)
    with requests(root) as sent:
        trials, states = read_trials_and_states(root, [*keys, TrialKey("scratch", 7)])
    assert (list(trials), list(states)) == (keys[:5], keys[5:])
    assert trials[keys[0]] == trial_record(*keys[0])
    assert len(sent) == 1 + 5 + 2 * 2, "a state is read and dated"


@pytest.mark.usefixtures("store")
def test_a_trial_that_ends_between_listing_and_reading_counts_as_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder("ends")
    (key,) = write_trials(root, finished=0, running=1)
    listed = list_trial_files(root)
    write_trials(root, finished=1, running=0)
    (root / "trials/scratch/fold-0.run/state.json").unlink()
    monkeypatch.setattr(trial_files, "list_trial_files", lambda _: listed)
    assert read_trials_and_states(root, [key]) == ({key: trial_record(*key)}, {})


@pytest.mark.usefixtures("store")
def test_a_store_that_cannot_be_read_is_an_error_and_not_an_empty_study(monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder("refused")
    (key,) = write_trials(root, finished=1, running=0)
    listed = list_trial_files(root)
    monkeypatch.setattr(trial_files, "list_trial_files", lambda _: listed)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError("denied")

    for file in listed.finished.values():
        monkeypatch.setattr(type(file.fs), "_cat_file", denied)  # type: ignore[attr-defined]
        monkeypatch.setattr(type(file.fs), "_open", denied)  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"trial\.json.*denied"):
        read_trials(root, [key])


@pytest.mark.usefixtures("store")
def test_an_empty_record_in_a_store_counts_as_damaged() -> None:
    root = folder("empty")
    (key,) = write_trials(root, finished=1, running=0)
    (root / "trials/scratch/fold-0/trial.json").write_bytes(b"")
    assert read_trials(root, [key]) == {key: None}


@pytest.mark.parametrize("place", ["a folder", "a store"])
def test_the_time_is_that_of_the_storage_which_dates_files(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if place == "a store":
        request.getfixturevalue("store")
    where = tmp_path if place == "a folder" else folder("clock")
    (where / "before").write_bytes(b"x")
    now = storage_time(where)
    (where / "after").write_bytes(b"x")
    before, after = modified_at(where / "before"), modified_at(where / "after")
    assert before is not None
    assert now is not None
    assert after is not None
    assert before <= now <= after
    assert {path.name for path in where.iterdir()} == {"before", "after"}


def test_a_place_that_may_only_be_read_or_has_no_clock_tells_no_time(tmp_path: Path) -> None:
    assert storage_time(Path("/proc")) is None
    assert storage_time(parse_path(f"memory://{tmp_path.name}")) is None
