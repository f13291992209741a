"""Run trials in several processes of this machine that share its GPU, without Ray.

While one process compiles, predicts or writes, the others train. Each has its own networks and a part of the GPU's
memory; JAX keeps compiled steps on disk, where a process that needs one later reads it.
"""

import os
import pickle
import signal
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from cxr_platform.config import Storage
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import TrialKey, TrialRecord
from cxr_platform.errors import CxrError, typed_line
from cxr_platform.progress import NoProgress
from cxr_platform.storage.files import write_atomically
from cxr_platform.storage.lock import file_lock
from cxr_platform.training.devices import is_deterministic, limit_process
from cxr_platform.training.engine_local import chosen_storages, compute_activations, local_share
from cxr_platform.training.mps import mps_for
from cxr_platform.training.plan import Share, cuts_of
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import StudyRun, TrialInputs, execute_trial, inputs_of, resolved_precision
from cxr_platform.training.trial import Workbench

COMPILED = "JAX_COMPILATION_CACHE_DIR"
STOP_SECONDS = 10.0
DECISION_SECONDS = 600.0
"""Longest time that a process waits for another one that decides where activations are kept."""


@dataclass(frozen=True)
class Note:
    """A line for the reader about a trial that goes on."""

    text: str


Outcome = TrialRecord | CxrError | str | Note
"""The answer of a process: the record of a trial, an error that ends the study, the reason of a failure, or a note."""


@dataclass
class _Worker:
    """A process, the trial that it runs, and the strategy of the last one; `leads` starts with the longest strategy."""

    process: Any
    connection: Connection
    leads: bool
    key: TrialKey | None = None
    strategy: str | None = None


def run(study: StudyRun, todo: list[TrialKey], progress: StudyProgress, processes: int) -> dict[TrialKey, str]:
    """Run `todo`; a trial that fails, or whose process dies, is tried again as often as the profile states.

    An `Engine`, once `processes` is given.
    """
    share = local_share(study.plan.profile.resources, processes)
    waiting, tries, failures = list(todo), Counter[TrialKey](), dict[TrialKey, str]()
    with mps_for(study.plan.profile.resources), compiled_steps(), _pickled(study, todo) as file:
        workers = [_start(file, share, number == 0, processes) for number in range(min(processes, len(todo)))]
        try:
            progress.training_begins()
            while waiting or any(worker.key for worker in workers):
                for worker in workers:
                    _give(worker, workers, waiting)
                busy = {worker.connection: place for place, worker in enumerate(workers) if worker.key}
                for connection in wait(list(busy)):
                    place = busy[connection]  # type: ignore[index]  # `wait` returns what it was given
                    worker = workers[place]
                    outcome = _outcome(worker)
                    if isinstance(outcome, Note):
                        progress.note(outcome.text)
                        continue
                    key, worker.key = worker.key, None
                    assert key is not None
                    if isinstance(outcome, CxrError):
                        raise outcome
                    study.folder.check_held()
                    if isinstance(outcome, TrialRecord):
                        progress.finished(outcome)
                        continue
                    if worker.connection.closed:
                        workers[place] = _start(file, share, worker.leads, processes)
                    tries[key] += 1
                    if tries[key] <= study.plan.profile.resources.retries:
                        progress.message(f"{key} failed and is tried again: {outcome}")
                        waiting.insert(0, key)
                    else:
                        failures[key] = outcome
                        progress.failed(key, outcome)
        finally:
            _stop(workers)
    return failures


def next_trial(waiting: Sequence[TrialKey], last: str | None, running: Collection[str], leads: bool) -> TrialKey:
    """Return the trial of `waiting`, in the order of the plan, for a process whose last strategy was `last`.

    A process stays with its strategy, whose step it has compiled. One process begins with the longest strategy, and
    the others with the shortest ones that no process runs, so that few processes compile the same step at once. At the
    end all of them share the longest strategy that is left.
    """
    same = [key for key in waiting if key.strategy == last]
    if same:
        return same[0]
    free = [key for key in waiting if key.strategy not in running]
    if leads or not free:
        return (free or waiting)[0]
    return next(key for key in waiting if key.strategy == free[-1].strategy)


def _give(worker: _Worker, workers: Sequence[_Worker], waiting: list[TrialKey]) -> None:
    """Give an idle `worker` the next trial, if one is left."""
    if worker.key or not waiting:
        return
    running = {other.key.strategy for other in workers if other.key}
    worker.key = next_trial(waiting, worker.strategy, running, worker.leads)
    worker.strategy = worker.key.strategy
    waiting.remove(worker.key)
    try:
        worker.connection.send(worker.key)
    except OSError:  # it has died; `wait` then reports the end of its connection
        return


def _outcome(worker: _Worker) -> Outcome:
    try:
        outcome: Outcome = worker.connection.recv()
    except (EOFError, OSError):
        worker.connection.close()
        worker.process.join(STOP_SECONDS)
        worker.process.terminate()  # it may go on without a connection
        return f"its process ended with exit code {worker.process.exitcode}"
    return outcome


@contextmanager
def _pickled(study: StudyRun, todo: Sequence[TrialKey]) -> Iterator[Path]:
    """Yield a file with the study and the cuts of `todo` for processes to read.

    One that gets much as an argument keeps the others waiting for its start.
    """
    with tempfile.TemporaryDirectory(prefix="cxr-study-") as folder:
        file = Path(folder) / "study.pickle"
        with file.open("wb") as stream:
            pickle.dump((study, cuts_of([key.strategy for key in todo])), stream, protocol=5)
        yield file


def _start(file: Path, share: Share, leads: bool, processes: int) -> _Worker:
    context = get_context("spawn")  # a fork of a process that runs TensorFlow or JAX may hang
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(file, share, there, processes), daemon=True)
    process.start()
    there.close()  # so that the end of the process ends the connection
    return _Worker(process, here, leads)


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        worker.connection.close()


def _work(file: Path, share: Share, connection: Connection, processes: int) -> None:
    """Run the trials that come over `connection`, and answer each with its outcome, until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    with file.open("rb") as stream:
        study, cuts = pickle.load(stream)
    limit_process(share.cpus, share.gpus, is_deterministic(study.plan.profile.resources, share.gpus))
    bench: Workbench | None = None
    chosen: dict[str, Storage] = {}
    inputs: tuple[str | None, TrialInputs] | None = None
    while True:
        try:
            key: TrialKey = connection.recv()
        except EOFError:
            return
        outcome: Outcome
        try:
            if bench is None:
                bench, chosen = _set_up(study, cuts, share, processes, file, connection)
            cut = strategy_by_name(key.strategy).cut
            if inputs is None or inputs[0] != cut:
                inputs = None
                bench.unload()  # the GPU has no memory for the last inputs beside the network that computes the next
                activations = compute_activations(study, cuts_of([key.strategy]), NoProgress(), chosen)
                inputs = cut, inputs_of(study, key, activations)
            note = partial(_send_note, connection)
            outcome = execute_trial(study, bench, key, inputs[1], share, lambda _: None, note)
        except CxrError as error:
            outcome = error
        except Exception as error:  # the other trials continue whatever the failure of this one is
            outcome = typed_line(error)
        connection.send(outcome)


def _send_note(connection: Connection, text: str) -> None:
    connection.send(Note(text))


def _set_up(
    study: StudyRun, cuts: tuple[str, ...], share: Share, processes: int, file: Path, connection: Connection
) -> tuple[Workbench, dict[str, Storage]]:
    """Return the workbench of this process, and cut → where activations are kept.

    The first process decides that for the `cuts` of all processes, and keeps it beside the study's `file`. One process
    at a time changes `study.json`. Raises `StudyMismatch` if earlier trials had another precision, `ConfigError` if
    there is no room for the activations.
    """
    precision = resolved_precision(study.plan.profile.training.precision, share)
    decided = file.with_name("storages.pickle")
    with file_lock(file.with_name("lock"), timeout=DECISION_SECONDS):
        study.folder.set_precision(precision)
        if not decided.exists():
            write_atomically(decided, pickle.dumps(chosen_storages(study, cuts, _Notes(connection), processes)))
    chosen: dict[str, Storage] = pickle.loads(decided.read_bytes())
    return study.workbench(share, precision), chosen


class _Notes(NoProgress):
    """Sends messages to the parent over `connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def message(self, text: str) -> None:
        """Send it."""
        _send_note(self._connection, text)


@contextmanager
def compiled_steps() -> Iterator[None]:
    """Let JAX keep compiled functions in a temporary folder, unless the user has named one."""
    if COMPILED in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="cxr-compiled-") as folder:
        os.environ[COMPILED] = folder
        try:
            yield
        finally:
            del os.environ[COMPILED]
