"""The champion's training as a Ray Train run: one worker that has all the GPUs of a node.

Ray Train starts the worker again when it dies, from its last checkpoint. What an earlier command left is not Ray's to
remember: every attempt is a run of its own for Ray, and the worker is told which checkpoint to go on from. So a command
continues whatever became of Ray's own snapshot, which is not written atomically.

The run needs nothing of a framework's own trainer: those set up an exchange between workers, and there is one.
"""

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import train as ray_train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cxr_platform.cluster import capacity
from cxr_platform.config import ResourcesConfig
from cxr_platform.errors import CxrError, StorageError, StudyError, last_line
from cxr_platform.storage.files import write_errors
from cxr_platform.storage.paths import arrow_filesystem
from cxr_platform.training.champion_worker import Job, work
from cxr_platform.training.trial import Epoch

RESTARTS = 3
"""How often a command starts a dead worker again. Each time it goes on, so that the limit only ends what never can."""

CHECKPOINTS_KEPT = 2
SECONDS_A_LOOK = 0.5

OnEpoch = Callable[[Epoch], None]
OnNote = Callable[[str], None]


def champion_resources(resources: ResourcesConfig) -> tuple[float, float]:
    """Processors and whole GPUs of the worker: every GPU of the node that has most, or without one its processors.

    Where others use that node the run waits for them.
    """
    nodes = capacity().nodes
    gpus = 0 if resources.gpu == 0 else int(max(node.get("GPU", 0.0) for node in nodes))
    most = max([1.0, *(node.get("CPU", 0.0) for node in nodes if node.get("GPU", 0.0) >= gpus)])
    return (min(most, resources.cpu * gpus) if gpus else most), float(gpus)


def fit(job: Job, on_epoch: OnEpoch, on_note: OnNote) -> None:
    """Train `job` until its folder holds the result.

    Raises `StudyError` when the worker died too often, `StorageError` when this process does not see the result,
    `KeyboardInterrupt` when the user stopped it.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(SECONDS_A_LOOK))  # an epoch may take less than two
    with _messages(on_epoch, on_note) as mailbox:
        refused = _fit(_trainer(job, mailbox))
    if refused is not None:
        raise refused
    if not job.folder.is_finished():
        raise StorageError(
            f"Expected the champion in {job.folder.final}.",
            received="a worker that stored it where this process cannot see it",
            advice="Give --runs a folder that all nodes share.",
        )


def _trainer(job: Job, mailbox: Any) -> DataParallelTrainer:
    needs = {"CPU": job.cpus, "GPU": job.gpus} if job.gpus else {"CPU": job.cpus}
    storage_path, storage_filesystem = arrow_filesystem(job.folder.run)
    with write_errors(job.folder.run):
        return DataParallelTrainer(
            work,
            train_loop_config={"job": ray.put(job)},
            scaling_config=ray_train.ScalingConfig(num_workers=1, use_gpu=job.gpus > 0, resources_per_worker=needs),
            run_config=ray_train.RunConfig(
                name=f"attempt-{uuid.uuid4().hex}",
                storage_path=storage_path,
                storage_filesystem=storage_filesystem,
                failure_config=ray_train.FailureConfig(max_failures=RESTARTS),
                checkpoint_config=ray_train.CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
                callbacks=[_Tell(mailbox)],
                logging_config=ray_train.LoggingConfig(log_level="ERROR"),
            ),
        )


def _fit(trainer: DataParallelTrainer) -> CxrError | None:
    try:
        with _own_interrupts():
            refused: CxrError | None = trainer.fit().return_value
    except (ray_train.TrainingFailedError, ray.exceptions.RayError) as error:  # the latter: the controller died
        raise StudyError(
            "Expected the champion's training to outlast its worker's failures.",
            received=last_line(error),
            advice="Mend the cause and run the same command again: it continues after the last finished epoch.",
        ) from error
    return refused


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Ray Train takes Ctrl-C to itself, for good, and ends the process as if all were well."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


class _Mailbox:
    """Carries messages from Ray Train's controller, where callbacks run, to the process that shows them."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []

    def put(self, message: dict[str, Any]) -> None:
        self._messages.append(message)

    def take(self) -> list[dict[str, Any]]:
        messages, self._messages = self._messages, []
        return messages


class _Tell(ray_train.UserCallback):
    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:  # noqa: ARG002
        ray.get(self._mailbox.put.remote(metrics[0]))

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        ray.get(self._mailbox.put.remote({"died": last_line(next(iter(worker_exceptions.values())))}))


@contextmanager
def _messages(on_epoch: OnEpoch, on_note: OnNote) -> Iterator[Any]:
    """A mailbox that a thread empties into the two functions while the block runs."""
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    over = threading.Event()

    def empty() -> None:
        for message in ray.get(mailbox.take.remote()):
            if "epoch" in message:
                on_epoch(Epoch(**message["epoch"]))
            else:
                on_note(f"the worker died ({message['died']}) and is started again from its last checkpoint")

    def watch() -> None:
        while not over.wait(SECONDS_A_LOOK):
            empty()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield mailbox
    finally:
        over.set()
        watcher.join()
        empty()
        ray.kill(mailbox)
