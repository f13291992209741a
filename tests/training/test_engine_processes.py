"""Order of trials, retries and errors, with threads in place of processes."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr_platform.config import Storage
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StorageError
from cxr_platform.training import engine_local, engine_processes, mps
from cxr_platform.training.engine_processes import Note, Outcome, next_trial
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.inputs import FrozenInputs
from cxr_platform.training.plan import Share
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import StudyRun
from tests.study_records import trial_record
from tests.training.builders import tiny_study

SECONDS = 600.0
"""Longest wait for an answer that a busy machine may take long to give."""

WAITING = [TrialKey(name, fold) for name in ("scratch", "fine-tuning-1", "off-the-shelf") for fold in (0, 1)]


def test_one_process_begins_with_the_longest_strategy_and_the_others_with_the_shortest() -> None:
    assert next_trial(WAITING, None, [], leads=True) == TrialKey("scratch", 0)
    assert next_trial(WAITING[1:], None, ["scratch"], leads=False) == TrialKey("off-the-shelf", 0)
    assert next_trial(WAITING[1:5], None, ["scratch", "off-the-shelf"], leads=False) == TrialKey("fine-tuning-1", 0)


def test_a_process_stays_with_its_strategy_and_then_helps_with_the_longest() -> None:
    assert next_trial(WAITING, "fine-tuning-1", ["scratch"], leads=False) == TrialKey("fine-tuning-1", 0)
    assert next_trial(WAITING[1:2], "off-the-shelf", ["scratch"], leads=False) == TrialKey("scratch", 1)


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[TrialKey, list[Outcome | None]]:
    """What becomes of each trial, attempt by attempt; `None` ends the process. Others succeed."""
    planned: dict[TrialKey, list[Outcome | None]] = {}

    def start(_study: object, _share: object, leads: bool, _processes: int) -> engine_processes._Worker:
        here, there = Pipe()
        thread = threading.Thread(target=answer, args=(there,))
        thread.start()
        process = SimpleNamespace(is_alive=thread.is_alive, terminate=lambda: None, join=thread.join, exitcode=9)
        return engine_processes._Worker(process, here, leads)

    def answer(connection: Connection) -> None:
        while True:
            try:
                key = connection.recv()
            except (EOFError, OSError):
                return
            attempts = planned.get(key, [])
            outcome = attempts.pop(0) if attempts else trial_record(key.strategy, key.fold)
            if outcome is None:
                connection.close()
                return
            with suppress(OSError):  # an error of another trial has ended the study
                connection.send(outcome)

    def stop(workers: list[engine_processes._Worker]) -> None:
        for worker in workers:
            worker.connection.close()
            worker.process.join(10)

    monkeypatch.setattr(engine_processes, "_start", start)
    monkeypatch.setattr(engine_processes, "_stop", stop)
    return planned


@pytest.fixture
def study() -> SimpleNamespace:
    resources = SimpleNamespace(cpu=1.0, gpu=0, retries=1, mps=False)
    profile = SimpleNamespace(resources=resources)
    return SimpleNamespace(plan=SimpleNamespace(profile=profile), folder=StudyFolder(Path("unused")))


Outcomes = dict[TrialKey, list[Outcome | None]]


def finished(run: Callable[[StudyProgress], object]) -> tuple[object, list[TrialKey]]:
    keys: list[TrialKey] = []
    progress = StudyProgress()
    progress.finished = lambda record: keys.append(record.key)  # type: ignore[method-assign]
    return run(progress), sorted(keys)


def test_a_trial_whose_process_dies_is_tried_again_in_a_new_one(outcomes: Outcomes, study: SimpleNamespace) -> None:
    outcomes[WAITING[0]] = [None]
    failures, keys = finished(lambda progress: engine_processes.run(study, WAITING, progress, processes=2))
    assert failures == {}
    assert keys == sorted(WAITING)


def test_a_process_that_lives_on_without_a_connection_is_replaced(
    outcomes: Outcomes, study: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, ended = engine_processes._start, []

    def living(*arguments: Any, **more: Any) -> engine_processes._Worker:
        worker = start(*arguments, **more)
        worker.process.is_alive = lambda: True
        worker.process.terminate = lambda: ended.append(worker)
        return worker

    monkeypatch.setattr(engine_processes, "_start", living)
    outcomes[WAITING[0]] = [None]
    failures, keys = finished(lambda progress: engine_processes.run(study, WAITING, progress, processes=2))
    assert (failures, keys) == ({}, sorted(WAITING))
    assert len(ended) == 1


def test_a_trial_that_fails_too_often_is_reported_and_the_others_run(
    outcomes: Outcomes, study: SimpleNamespace
) -> None:
    outcomes[WAITING[2]] = ["out of luck", "out of memory"]
    failures, keys = finished(lambda progress: engine_processes.run(study, WAITING, progress, processes=3))
    assert failures == {WAITING[2]: "out of memory"}
    assert len(keys) == 5


def test_processes_share_the_gpu_through_mps_if_the_profile_says_so(
    outcomes: Outcomes, study: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[bool] = []

    @contextmanager
    def daemon() -> Iterator[None]:
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "here")
        yield
        monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY")

    start = engine_processes._start

    def noted(*arguments: Any, **more: Any) -> engine_processes._Worker:
        running.append("CUDA_MPS_PIPE_DIRECTORY" in os.environ)
        return start(*arguments, **more)

    monkeypatch.setattr(mps, "mps_daemon", daemon)
    monkeypatch.setattr(engine_processes, "_start", noted)
    for study.plan.profile.resources.mps in (True, False):
        engine_processes.run(study, WAITING[:2], StudyProgress(), processes=2)
    assert running == [True, True, False, False]


def test_an_error_of_the_storage_ends_the_study(outcomes: Outcomes, study: SimpleNamespace) -> None:
    outcomes[WAITING[0]] = [StorageError("Expected room on the disk.")]
    with pytest.raises(StorageError, match="Expected room"):
        engine_processes.run(study, WAITING, StudyProgress(), processes=2)


def working(study: StudyRun) -> tuple[Connection, threading.Thread, list[str]]:
    """Return the connection to a thread that does the work of a process, and its first notes."""
    here, there = Pipe()
    with engine_processes._pickled(study, study.plan.trials()) as file:
        process = threading.Thread(target=engine_processes._work, args=(file, Share(1, 0), there, 1), daemon=True)
        process.start()
        here.send(TrialKey("nothing", 0))
        assert here.poll(SECONDS), "no answer"
        answers = [here.recv()]
        while isinstance(answers[-1], Note):
            answers.append(here.recv())
        assert "Expected a strategy" in str(answers.pop())
    return here, process, [note.text for note in answers]


def test_a_process_keeps_its_inputs_for_the_folds_and_frees_them_before_it_computes_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []

    def compute(_study: object, cuts: tuple[str, ...], *_: object) -> dict[str, list[np.ndarray]]:
        done.append(("compute", *cuts))
        return {cut: [np.zeros((2, 56, 1), "float16")] for cut in cuts}

    def execute(_study: object, _bench: object, key: TrialKey, inputs: object, *_: object) -> str:
        done.append(inputs)
        return str(key)

    bench = SimpleNamespace(unload=lambda: done.append("unload"))
    monkeypatch.setattr("cxr_platform.training.engine_processes.signal.signal", lambda *_: None)  # of main threads only
    monkeypatch.setattr(engine_processes, "_set_up", lambda *_: (bench, {}))
    monkeypatch.setattr(engine_processes, "compute_activations", compute)
    monkeypatch.setattr(engine_processes, "execute_trial", execute)
    here, process, _ = working(tiny_study(tmp_path, ("off-the-shelf",)))
    for key in (TrialKey("off-the-shelf", 0), TrialKey("off-the-shelf", 1), TrialKey("fine-tuning-1", 0)):
        here.send(key)
        assert here.poll(SECONDS), "no answer"
        assert here.recv() == str(key)
    here.close()
    process.join(SECONDS)
    heads, again, block = (each for each in done if isinstance(each, FrozenInputs))
    assert heads is again
    assert done == ["unload", ("compute", "features"), heads, heads, "unload", ("compute", "block_15"), block]


def test_a_process_trains_and_stores_the_trials_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_platform.training.engine_processes.signal.signal", lambda *_: None)  # of main threads only
    study = tiny_study(tmp_path, ("off-the-shelf",))
    study.folder.start(study.plan)
    here, process, notes = working(study)
    assert [note.split(":")[0] for note in notes] == ["Frozen activations"]
    here.send(TrialKey("off-the-shelf", 0))
    assert here.poll(SECONDS), "no answer"
    assert here.recv().key == TrialKey("off-the-shelf", 0)
    here.close()
    process.join(SECONDS)
    assert not process.is_alive()
    assert study.folder.trial_record(TrialKey("off-the-shelf", 0)).epochs == 2


def test_the_first_process_decides_for_the_cuts_of_all_where_activations_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf", "fine-tuning-1"))
    study.folder.start(study.plan)
    notes = [Pipe(), Pipe()]

    def set_up(number: int) -> dict[str, Storage]:
        cuts = ("features", "block_15")
        return engine_processes._set_up(study, cuts, Share(1, 0), 2, tmp_path / "study", notes[number][1])[1]

    monkeypatch.setattr(engine_local, "available_memory", lambda: 1e6)  # room for each cut, not for both
    chosen = {"features": "memory", "block_15": "memory"}
    assert set_up(0) == chosen == study.folder.record().activations
    monkeypatch.setattr(engine_local, "available_memory", lambda: 0)
    assert set_up(1) == chosen
    assert [here.poll() for here, _ in notes] == [True, False]
    (tmp_path / "storages.pickle").unlink()  # the command is run again, before any trial
    assert set_up(1) == {"features": "files", "block_15": "files"} == study.folder.record().activations
