"""The records in the folder of a study: one listing tells which there are, and each is read once, in one request.

trials/STRATEGY/fold-K/trial.json            TrialRecord of a finished trial
trials/STRATEGY/fold-K.run/state.json        TrialState of one that is not finished
"""

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cxr_platform.domain.study import TrialKey, TrialRecord, TrialState
from cxr_platform.errors import StudyError
from cxr_platform.storage.files import file_names, read_errors
from cxr_platform.storage.paths import is_remote
from cxr_platform.storage.retry import with_retries
from cxr_platform.validation import Record, parse_record

R = TypeVar("R", bound=Record)
Records = dict[TrialKey, TrialRecord | None]
States = dict[TrialKey, TrialState | None]

PATTERNS = ("*/fold-*/trial.json", "*/fold-*.run/state.json")
PLACE = re.compile(r"([^/]+)/fold-(0|[1-9]\d*)(?:/(trial)|\.run/state)\.json")
READ_AT_ONCE = 256
"""Small files of an object store that are read in parallel and held in memory."""


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


def read_each(files: Sequence[Path]) -> Iterator[tuple[Path, bytes | None]]:
    """Yield every file with its content, `None` if it is absent; those of an object store in parallel, by one request.

    Raises `StorageError` if one cannot be read.
    """
    for start in range(0, len(files), READ_AT_ONCE):
        part = files[start : start + READ_AT_ONCE]
        for file, answer in zip(part, _answers(part), strict=True):
            with read_errors(file):
                content = with_retries(file, partial(_content, file, answer))
            yield file, content


def modified_at(file: Path) -> datetime | None:
    """Return the time of the last change by the clock of the storage; `None` if it states none or the file is gone.

    Raises `StorageError` if it cannot be read.
    """
    store: Any = file
    with read_errors(file):
        try:
            if not is_remote(file):
                return datetime.fromtimestamp(file.stat().st_mtime, timezone.utc)
            changed: datetime = store.fs.modified(store.path)
        except (FileNotFoundError, NotImplementedError):
            return None
    return changed if changed.tzinfo else changed.replace(tzinfo=timezone.utc)


def storage_time(folder: Path) -> datetime | None:
    """Return the time by the clock of the storage of `folder`; `None` if it does not tell.

    S3 dates its answers; a file system dates a temporary file, which needs the permission to write.
    """
    if not is_remote(folder):
        try:
            with tempfile.TemporaryFile(dir=folder) as probe:
                return datetime.fromtimestamp(os.fstat(probe.fileno()).st_mtime, timezone.utc)
        except OSError:
            return None
    store: Any = folder
    if not hasattr(store.fs, "call_s3"):
        return None
    with read_errors(folder):
        bucket, key, _ = store.fs.split_path(store.path)
        listed = with_retries(folder, lambda: store.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1))
        return parsedate_to_datetime(listed["ResponseMetadata"]["HTTPHeaders"]["date"])


def _answers(files: Sequence[Path]) -> list[bytes | Exception | None]:
    """Return the content of files of one object store, or why they cannot be read; `None` for local ones."""
    if not is_remote(files[0]):
        return [None] * len(files)
    stores: Any = files
    with read_errors(files[0]):
        # A range, as s3fs first asks for the size of a whole file; not `cat`, which takes brackets for a pattern.
        answers: list[bytes | Exception | None] = with_retries(
            files[0], lambda: stores[0].fs.cat_ranges([store.path for store in stores], 0, None)
        )
    return answers


def _content(file: Path, answer: bytes | Exception | None) -> bytes | None:
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, FileNotFoundError):
        return None
    try:  # also what a store refused: an empty file has no range
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
