"""Where Ray Tune lets others in while trials run: in which order they start, when all end, and who hears of them."""

import pickle
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import CxrError, StorageError, last_line
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.progress import Progress
from cxr_platform.training.trial import Epoch

LOST = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.NodeDiedError)
"""What becomes of trials whose process or node is gone; their own exceptions come as `RayTaskError`."""


class Watch(tune.Callback):
    """Hands what Tune hears from trials to the progress display."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_trial_result(self, **info: Any) -> None:
        """An epoch, or the end of a trial."""
        key, result = TrialKey(*info["trial"].config["trial"]), info["result"]
        if "record" in result:
            self._progress.finished(result["record"])
        elif "epoch" in result:
            self._progress.epoch(key, Epoch(**result["epoch"]))

    def on_trial_error(self, **info: Any) -> None:
        """A trial that is not tried again, in this round."""
        error = _error_of(info["trial"])
        if not isinstance(error, LOST):  # those may have another round
            self._progress.failed(TrialKey(*info["trial"].config["trial"]), last_line(error))

    def on_trial_recover(self, **info: Any) -> None:
        """A trial that is."""
        self._progress.note(f"{TrialKey(*info['trial'].config['trial'])} failed and is tried again")

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks into its own state, which is never read again; a terminal cannot be pickled."""
        return {}


class InOrder(FIFOScheduler):
    """A trial that was lost goes on before those that have not begun; Tune's own puts it at the end of its list.

    Else the longest trials, which are first in the list, would be the last ones that run. It has the first place that
    another trial leaves; a node that is new takes what Ray has waiting for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._place: dict[str, int] = {}

    def on_trial_add(self, _tune_controller: Any, trial: Any) -> None:
        """Called again for a trial that is put back: it keeps its place."""
        self._place.setdefault(trial.trial_id, len(self._place))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first of the list that waits, or none."""
        waiting = [trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING]
        return min(waiting, key=lambda trial: self._place[trial.trial_id], default=None)


class Stop(tune.Stopper):
    """Ends the whole run when one trial met what no other would escape: then `error` says what."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self.error: CxrError | None = None

    def __call__(self, _trial_id: str, result: dict[str, Any]) -> bool:
        """Whether this trial is to end."""
        self.error = self.error or self._reason_to_stop(result)
        return self.error is not None

    def _reason_to_stop(self, result: dict[str, Any]) -> CxrError | None:
        refused: CxrError | None = result.get("refused")
        if refused is not None:
            escaped = isinstance(refused, StorageError) and self._folder.is_writable(result["key"])
            return None if escaped else refused
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
        """Whether all others are to end too."""
        return self.error is not None


def _error_of(trial: Any) -> BaseException | None:
    """What the trial died of last. Tune has it in a file of this machine, and copies that to the storage later."""
    try:
        error: BaseException = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # none there, or one that cannot be loaded here
        return None
    return error
