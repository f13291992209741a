"""The champion's training as a Ray Train run: one worker with as many GPUs of a node as share a batch.

Ray Train restarts the worker when it dies; checkpoints are those of any trial (`running_trial`), so that a worker and a
later command continue in the same way, and nothing is read from Ray Train's own snapshots. The run needs no trainer of
a framework: those set up communication between workers, and there is only one.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray import train as ray_train

from cxr_platform.cluster import capacity
from cxr_platform.config import ResourcesConfig
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import CxrError, StorageError, StudyError, last_line
from cxr_platform.progress import Progress
from cxr_platform.ray_internals import TRAIN_POLL_SECONDS, data_parallel_trainer
from cxr_platform.storage.files import remove, remove_unneeded, write_errors
from cxr_platform.storage.paths import arrow_filesystem
from cxr_platform.training.activations.on_ray import Stored, fetched_activations
from cxr_platform.training.devices import is_deterministic, limit_process
from cxr_platform.training.plan import Share
from cxr_platform.training.step import usable_devices
from cxr_platform.training.study import StudyRun, execute_trial, inputs_of
from cxr_platform.training.trial import Epoch

RESTARTS = 3
"""How often one command restarts a dead worker. Each attempt continues the last one."""

TASK = "Training the champion"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class ChampionJob:
    """What the worker reads from the object store; `activations` are those of `compute_activations`."""

    study: StudyRun
    key: TrialKey
    activations: Stored
    share: Share


def champion_resources(resources: ResourcesConfig, batch_size: int) -> Share:
    """Return the resources of the worker: the GPUs that a step uses of a node (`usable_devices`), or its processors.

    The run waits until a node has as many free. Without a GPU, all processors of the largest node are reserved.
    """
    nodes = capacity().nodes
    present = 0 if resources.gpu == 0 else int(max(node.get("GPU", 0.0) for node in nodes))
    gpus = usable_devices(batch_size, present) if present else 0
    most = max([1.0, *(node.get("CPU", 0.0) for node in nodes if node.get("GPU", 0.0) >= gpus)])
    return Share(min(most, resources.cpu * gpus) if gpus else most, float(gpus))


def fit(job: ChampionJob, progress: Progress) -> None:
    """Train `job` until its folder holds the result.

    Raises `StudyError` if the worker died too often, `StorageError` if this process does not see the result,
    `KeyboardInterrupt` if the user stopped it.
    """
    os.environ.setdefault(TRAIN_POLL_SECONDS, str(POLL_SECONDS))  # the default of 2 s outlasts epochs
    try:
        with _mailbox(progress) as mailbox, _keep_interrupts():
            refused: CxrError | None = _trainer(job, mailbox).fit().return_value
    except (ray_train.TrainingFailedError, ray.exceptions.RayError) as error:  # the latter: the controller died
        raise StudyError(
            "Expected the champion's training to outlast its worker's failures.",
            received=last_line(error),
            advice="Fix the cause and run the same command again: it continues after the last finished epoch.",
        ) from error
    finally:
        remove_unneeded(_ray_folder(job))
    if refused is not None:
        raise refused
    if not job.study.folder.is_finished(job.key):
        raise StorageError(
            f"Expected the champion in {job.study.folder.trial_folder(job.key)}.",
            received="a worker that stored it where this process cannot see it",
            advice="Give --runs a folder that all nodes share.",
        )


def _ray_folder(job: ChampionJob) -> Any:
    """Return where Ray Train keeps its own files while it runs."""
    return job.study.folder.champion_root / "ray-train.run"


def _trainer(job: ChampionJob, mailbox: Any) -> Any:
    folder, share = _ray_folder(job), job.share
    needs = {"CPU": share.cpus, "GPU": share.gpus} if share.gpus else {"CPU": share.cpus}
    with write_errors(folder):
        remove(folder)  # of a driver that was killed
    storage_path, storage_filesystem = arrow_filesystem(folder.parent)
    with write_errors(folder):
        return data_parallel_trainer()(
            _work,
            train_loop_config={"job": ray.put(job), "mailbox": mailbox},
            scaling_config=ray_train.ScalingConfig(num_workers=1, use_gpu=share.gpus > 0, resources_per_worker=needs),
            run_config=ray_train.RunConfig(
                name=folder.name,
                storage_path=storage_path,
                storage_filesystem=storage_filesystem,
                failure_config=ray_train.FailureConfig(max_failures=RESTARTS),
                callbacks=[_ReportRestart(mailbox)],
                logging_config=ray_train.LoggingConfig(log_level="ERROR"),
            ),
        )


def _work(config: dict[str, Any]) -> CxrError | None:
    """Train in the worker. Return, instead of raising it, an error that a restart would meet again."""
    job: ChampionJob = ray.get(config["job"])
    study, key = job.study, job.key

    def report(epoch: Epoch | str) -> None:  # not by `ray.train.report`, which a killed worker may not have delivered
        with suppress(ray.exceptions.RayError):  # progress only: training outlasts the node of the mailbox
            ray.get(config["mailbox"].put.remote(epoch))

    if study.folder.is_finished(key):  # stored by a worker that died before it could report
        return None
    try:
        profile = study.plan.profile
        deterministic = is_deterministic(profile.resources, job.share.gpus)
        limit_process(job.share.cpus, job.share.gpus, deterministic)
        devices = usable_devices(profile.training.batch_size)
        bench = study.workbench(job.share, devices=devices)
        inputs = inputs_of(study, key, fetched_activations(job.activations, key))
        execute_trial(study, bench, key, inputs, job.share, report, report, checkpoint_seconds=0.0)
    except CxrError as error:
        return error
    except FloatingPointError as error:
        return StudyError("Expected the champion's training to converge.", received=error)
    return None


@contextmanager
def _keep_interrupts() -> Iterator[None]:
    """Restore the handler of Ctrl-C, which Ray Train replaces for good; its handler exits with status 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


class _Mailbox:
    """Carries epochs from the worker and messages from Ray Train's controller, where callbacks run, to this process."""

    def __init__(self) -> None:
        self._items: list[Epoch | str] = []

    def put(self, item: Epoch | str) -> None:
        self._items.append(item)

    def take(self) -> list[Epoch | str]:
        items, self._items = self._items, []
        return items


class _ReportRestart(ray_train.UserCallback):
    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        reason = last_line(next(iter(worker_exceptions.values())))
        with suppress(ray.exceptions.RayError):
            ray.get(self._mailbox.put.remote(f"the worker died ({reason}) and is restarted from its last checkpoint"))


@contextmanager
def _mailbox(progress: Progress) -> Iterator[Any]:
    """Yield a mailbox whose content a thread passes to `progress`; none if its node is lost, as training goes on."""
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    over = threading.Event()

    def deliver() -> None:
        items: list[Epoch | str] = []
        with suppress(ray.exceptions.RayError):
            items = ray.get(mailbox.take.remote())
        for item in items:
            if isinstance(item, Epoch):
                progress.step(TASK, item.epoch, item.epochs)
            else:
                progress.message(item)

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            deliver()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield mailbox
    finally:
        over.set()
        watcher.join()
        deliver()
        ray.kill(mailbox)
