"""The records in the folder of a study: one listing tells which there are, and each is read once, in one request.

trials/STRATEGY/fold-K/trial.json            TrialRecord of a finished trial
trials/STRATEGY/fold-K.run/state.json        TrialState of one that is not finished
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cxr_platform.domain.study import TrialKey, TrialRecord, TrialState
from cxr_platform.errors import StudyError
from cxr_platform.storage.files import file_names, modified_at, read_each, read_errors
from cxr_platform.storage.paths import is_remote
from cxr_platform.validation import Record, parse_record

R = TypeVar("R", bound=Record)
Records = dict[TrialKey, TrialRecord | None]
States = dict[TrialKey, TrialState | None]

PATTERNS = ("*/fold-*/trial.json", "*/fold-*.run/state.json")
PLACE = re.compile(r"([^/]+)/fold-(0|[1-9]\d*)(?:/(trial)|\.run/state)\.json")


@dataclass(frozen=True)
class TrialFiles:
    """The `trial.json` of finished trials and the `state.json` of others, by trial."""

    finished: Mapping[TrialKey, Path]
    running: Mapping[TrialKey, Path]


def finished_folder(folder: Path, key: TrialKey) -> Path:
    """Return the folder of a finished trial of the study in `folder`."""
    return folder / "trials" / key.strategy / f"fold-{key.fold}"


def list_trial_files(folder: Path) -> TrialFiles:
    """List a study's `folder` once; raise `StorageError` if it cannot be listed. Nothing is read."""
    trials = folder / "trials"
    with read_errors(trials):
        if is_remote(trials):  # `glob` would ask for the content of every trial's folder
            names = file_names(trials)
        else:
            names = [file.relative_to(trials).as_posix() for pattern in PATTERNS for file in trials.glob(pattern)]
    finished: dict[TrialKey, Path] = {}
    running: dict[TrialKey, Path] = {}
    for place in filter(None, map(PLACE.fullmatch, names)):
        group = finished if place[3] else running
        group[TrialKey(place[1], int(place[2]))] = trials / place[0]
    return TrialFiles(finished, running)


def read_trials(folder: Path, wanted: Collection[TrialKey]) -> Records:
    """Return those of `wanted` that have a `trial.json`, with `None` for a damaged one."""
    return read_records(TrialRecord, list_trial_files(folder).finished, wanted)


def read_trial_states(folder: Path, wanted: Collection[TrialKey]) -> States:
    """Return those of `wanted` that have a `state.json`, with `None` for a damaged one."""
    return read_records(TrialState, list_trial_files(folder).running, wanted)


def read_trials_and_states(folder: Path, wanted: Collection[TrialKey]) -> tuple[Records, States]:
    """Return what `read_trials` and `read_trial_states` return, from one listing.

    A trial that ends between listing and reading counts as finished. The states are dated by the clock of the storage.
    """
    files = list_trial_files(folder)
    states = read_records(TrialState, files.running, wanted)
    ended = {key: finished_folder(folder, key) / "trial.json" for key in files.running if key not in states}
    dated = {key: state and _by_storage(state, files.running[key]) for key, state in states.items()}
    return read_records(TrialRecord, {**ended, **files.finished}, wanted), dated


def _by_storage(state: TrialState, file: Path) -> TrialState:
    """Return `state` with the time of its last update by the clock of the storage, which is one for all nodes."""
    return state.model_copy(update={"updated": modified_at(file) or state.updated})


def read_records(
    kind: type[R], files: Mapping[TrialKey, Path], wanted: Collection[TrialKey]
) -> dict[TrialKey, R | None]:
    """Return the records of those of `wanted` that are in `files`, with `None` for a damaged one.

    They are read by place, not by content; a file that goes away between listing and reading is left out.
    """
    keys = {files[key]: key for key in sorted(set(wanted)) if key in files}
    records: dict[TrialKey, R | None] = {}
    for file, content in read_each(list(keys)):
        if content is None:
            continue
        try:
            records[keys[file]] = parse_record(kind, content, str(file), StudyError)
        except StudyError:
            records[keys[file]] = None
    return records
