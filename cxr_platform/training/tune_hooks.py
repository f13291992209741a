"""Callback, scheduler and stopper of the Ray Tune run: progress, the order of trials, and when to stop all of them."""

import heapq
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import CxrError, StorageError
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.progress import StudyProgress

LOST = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.NodeDiedError)
"""Errors of trials whose process or node is lost; exceptions of the trial itself come as `RayTaskError`."""
START_SECONDS = 180.0
"""Time for which a waiting trial is kept for the process that may be starting for it. Twelve processes that started at
once on two processors took 35 s."""
COUNT_SECONDS = 1.0
"""Least time between two counts of the places of a cluster: each asks Ray's control store."""


class TuneProgress(tune.Callback):
    """Passes the reports of trials to a `StudyProgress`.

    A trial that fails by itself reports its `failure` first; one that ends without such a report lost its process or
    its node, and may get another round.
    """

    def __init__(self, progress: StudyProgress) -> None:
        self._progress = progress
        self._failures: dict[TrialKey, str] = {}

    def on_trial_result(self, **info: Any) -> None:
        """Report an epoch, a line, or the end of a trial."""
        key, result = TrialKey(*info["trial"].config["trial"]), info["result"]
        if "record" in result:
            self._progress.finished(result["record"])
        elif "epoch" in result:
            self._progress.epoch(key, result["epoch"])
        elif "note" in result:
            self._progress.note(result["note"])
        elif "failure" in result:
            self._failures[key] = result["failure"]

    def on_trial_error(self, **info: Any) -> None:
        """Report a trial that is not retried in this round."""
        key = TrialKey(*info["trial"].config["trial"])
        failure = self._failures.pop(key, None)
        if failure is not None:
            self._progress.failed(key, failure)

    def on_trial_recover(self, **info: Any) -> None:
        """Report a trial that is retried."""
        key = TrialKey(*info["trial"].config["trial"])
        self._failures.pop(key, None)
        self._progress.message(f"{key} failed and is tried again")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out everything: Tune pickles callbacks into a state that is never read, and a terminal cannot be."""
        return {}


class PlannedOrder(FIFOScheduler):
    """Starts waiting trials in the order of the plan, also those that were lost; Tune would put these at the end.

    Otherwise the longest trials, which are first in the plan, could be the last ones to run. A lost trial gets the
    next place that another trial leaves.

    Tune gives the chosen trial to a process that has become free, and ends the process that is starting for it, if
    there is one. Where trials are short, those of a new node would be ended and started again without end. So as many
    of the first waiting trials as places are free are kept from free processes: Ray starts processes for them. They are
    kept for `START_SECONDS`, as places may also be taken by other work, in which case nothing starts for them.
    `places` returns how many trials the nodes that are alive can run at a time.
    """

    def __init__(self, places: Callable[[], int]) -> None:
        super().__init__()
        self._count_places = places
        self._places, self._counted = 0, float("-inf")
        self._began = False
        self._rank: dict[str, int] = {}
        self._waiting: list[tuple[int, int, Any]] = []  # a heap: rank, number of the entry, trial
        self._entries = 0
        self._put_back: set[str] = set()
        self._kept_since: dict[str, float] = {}

    def on_trial_add(self, _tune_controller: Any, trial: Any) -> None:
        """Note the rank of a trial in the plan. Tune calls this again for a trial that it puts back.

        That one keeps its rank, and no process is starting for it: Ray starts those in the order of the first requests.
        """
        if trial.trial_id in self._rank:
            self._put_back.add(trial.trial_id)
        rank = self._rank.setdefault(trial.trial_id, len(self._rank))
        self._entries += 1
        heapq.heappush(self._waiting, (rank, self._entries, trial))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the first waiting trial of the plan for which no process may be starting, or the last waiting one.

        `None` if none waits.
        """
        while self._waiting and self._waiting[0][2].status != Trial.PENDING:
            heapq.heappop(self._waiting)
        if not self._waiting:
            return None
        running = sum(trial.status == Trial.RUNNING for trial in tune_controller.get_live_trials())
        self._began = self._began or running > 0
        starting = self._places_now() - running - 1  # one is the place of the process that the trial is chosen for
        if starting <= 0 or not self._began:
            return self._waiting[0][2]
        waiting = sorted(entry for entry in self._waiting if entry[2].status == Trial.PENDING)
        trials = list({trial.trial_id: trial for _, _, trial in waiting}.values())  # one put back may stand here twice
        for trial in trials[:starting]:
            since = self._kept_since.setdefault(trial.trial_id, time.monotonic())
            if trial.trial_id in self._put_back or time.monotonic() - since > START_SECONDS:
                return trial
        return trials[min(starting, len(trials) - 1)]

    def _places_now(self) -> int:
        """Return the places as counted within the last `COUNT_SECONDS`. Where they are more, processes start anew."""
        if time.monotonic() - self._counted > COUNT_SECONDS:
            before, self._places, self._counted = self._places, self._count_places(), time.monotonic()
            if self._places > before:
                self._kept_since.clear()
        return self._places


class StopStudy(tune.Stopper):
    """Stops all trials when one of them reports an error that would affect the others too; `error` then holds it."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self.error: CxrError | None = None

    def __call__(self, _trial_id: str, result: dict[str, Any]) -> bool:
        """Return True if the trial that reported `result` has to stop."""
        self.error = self.error or self._reason_to_stop(result)
        return self.error is not None

    def _reason_to_stop(self, result: dict[str, Any]) -> CxrError | None:
        refused: CxrError | None = result.get("refused")
        if refused is not None:
            only_there = isinstance(refused, StorageError) and self._folder.is_writable(result["key"])
            return None if only_there else refused
        if "record" not in result:
            return None
        key = result["record"].key
        if not self._folder.is_finished(key):
            return StorageError(
                f"Expected the files of {key} in {self._folder.root}.",
                received="a trial that was stored where this process cannot see it",
                advice="Give --runs a folder that all nodes share.",
            )
        try:
            self._folder.check_held()
        except StorageError as error:
            return error
        return None

    def stop_all(self) -> bool:
        """Return True if all other trials have to stop too."""
        return self.error is not None
