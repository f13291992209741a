"""What a trial leaves in the study's folder while it runs: where it stands, and a checkpoint to go on from.

    trials/STRATEGY/fold-K.run/state.json     for whoever asks how the study is (`cxr study status`)
    trials/STRATEGY/fold-K.run/position.npz   taken up by the next process that runs this trial, on whatever node

Both are gone when the trial is finished.
"""

import logging
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StorageError
from cxr_platform.storage.files import write_json
from cxr_platform.training.checkpoint import FILE, read_checkpoint, write_checkpoint
from cxr_platform.training.plan import Share
from cxr_platform.training.trial import Epoch, Position

STATE = "state.json"
STATE_SECONDS = 10.0
"""Between two writings of `state.json`: an epoch of a small study takes less than a second."""

ALIVE_SECONDS = 60.0
"""After which it is written at the latest, also within an epoch: who reads it takes silence for a lost node."""

log = logging.getLogger(__name__)


@dataclass
class State:
    """`state.json`. `epoch` is the last finished one and `seconds` what the finished ones took, in whatever process.

    `started` and `updated` are in UTC, the former as if the trial had run without a pause; `cpus` and `gpus` are what
    it reserves.
    """

    strategy: str
    fold: int
    node: str
    started: str
    updated: str
    epoch: int
    epochs: int
    seconds: float
    cpus: float
    gpus: float


class Running:
    """Writes the traces of one trial in `folder`, from `begin` to the end of its `with` block."""

    def __init__(self, folder: Path, key: TrialKey, epochs: int, share: Share, checkpoint_seconds: float) -> None:
        self._folder, self._checkpoint_seconds = folder, checkpoint_seconds
        now = utc_now()
        self.state = State(key.strategy, key.fold, platform.node(), now, now, 0, epochs, 0.0, share.cpus, share.gpus)
        self._written = self._kept = time.monotonic()
        self._over, self._writing = threading.Event(), threading.Lock()
        self._heartbeat = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._heartbeat.ident is not None:
            self._heartbeat.join()

    def begin(self) -> Position | None:
        """Say that the trial runs. Returns where an earlier process left it; one that is damaged is not used.

        Raises `StorageError` where it cannot be said: there, no result could be stored either.
        """
        position = self._last()
        if position is not None:
            state, last = self.state, position.history[-1]
            state.epoch = last.epoch
            state.seconds = sum(epoch.seconds for epoch in position.history)
            state.started = utc_now(timedelta(seconds=state.seconds))
        self._tell()
        self._heartbeat.start()
        return position

    def _last(self) -> Position | None:
        try:
            return read_checkpoint(self._folder) if (self._folder / FILE).exists() else None
        except ValueError as error:  # the result is the same from the beginning
            log.warning("%s; the trial starts from its beginning", error)
            return None

    def epoch(self, epoch: Epoch, position: Callable[[], Position]) -> None:
        """Say how far the trial is; when it is time to, keep its position, or raise `StorageError` where it cannot."""
        state, now = self.state, time.monotonic()
        state.epoch, state.seconds = epoch.epoch, state.seconds + epoch.seconds
        if now - self._kept >= self._checkpoint_seconds and epoch.epoch < epoch.epochs:
            write_checkpoint(self._folder, position())
            self._kept = now
        if now - self._written >= STATE_SECONDS:
            self._tell_if_possible()

    def _tell_if_possible(self) -> None:
        try:
            self._tell()
        except StorageError as error:  # who asks takes the trial for stalled; its result is none the worse
            log.warning("%s", error)

    def _tell(self) -> None:
        with self._writing:
            self.state.updated, self._written = utc_now(), time.monotonic()
            write_json(self._folder / STATE, asdict(self.state))

    def _beat(self) -> None:
        while not self._over.wait(ALIVE_SECONDS / 4):
            if time.monotonic() - self._written >= ALIVE_SECONDS:
                self._tell_if_possible()


def utc_now(ago: timedelta = timedelta()) -> str:
    """ISO 8601, to the second."""
    return (datetime.now(timezone.utc) - ago).isoformat(timespec="seconds")
