"""State and checkpoint of a running trial, in the study's folder.

    trials/STRATEGY/fold-K.run/state.json     TrialState, for `cxr study status`
    trials/STRATEGY/fold-K.run/position.npz   the `Position` after an epoch, from which any node can continue the trial
                                              on the same backend and in the same precision

Both are removed when the trial is finished.
"""

import io
import json
import logging
import platform
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from cxr_platform.config import differences
from cxr_platform.domain.study import TrialKey, TrialState
from cxr_platform.errors import StorageError, StudyMismatch
from cxr_platform.storage.files import read_errors, write_atomically, write_json
from cxr_platform.storage.retry import with_retries
from cxr_platform.training.plan import Share
from cxr_platform.training.trial import Epoch, Position

STATE, CHECKPOINT = "state.json", "position.npz"
ACTIVATIONS_KEPT = "activations"
"""Where they are kept, among the numerics of a checkpoint: the order of batches depends on it."""

STATE_SECONDS = 10.0
"""Least time between two writes of `state.json`: an epoch of a small study takes less than a second."""

ALIVE_SECONDS = 60.0
"""Longest time between two writes, also within an epoch: a reader takes an old state for a lost node."""

log = logging.getLogger(__name__)


class TrialHeartbeat:
    """Writes state and checkpoints of one trial into `folder`, from `begin` to the end of its `with` block.

    `numerics` are backend, precision and storage of activations, with which alone its checkpoints can be continued.
    """

    def __init__(
        self,
        folder: Path,
        key: TrialKey,
        epochs: int,
        share: Share,
        checkpoint_seconds: float,
        numerics: Mapping[str, str | None],
    ) -> None:
        self._folder, self._checkpoint_seconds, self._numerics = folder, checkpoint_seconds, numerics
        now = utc_now()
        self.state = TrialState(
            strategy=key.strategy,
            fold=key.fold,
            node=platform.node(),
            started=now,
            updated=now,
            epoch=0,
            epochs=epochs,
            seconds=0.0,
            cpus=share.cpus,
            gpus=share.gpus,
        )
        self._written = self._kept = time.monotonic()
        self._over, self._writing = threading.Event(), threading.Lock()
        self._heartbeat = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._heartbeat.ident is not None:
            self._heartbeat.join()

    def begin(self) -> Position | None:
        """Write the first state. Return the position of an earlier process, or `None`; a damaged one is not used.

        Raises `StorageError` if the state cannot be written: no result could be stored there either; `StudyMismatch`
        if the earlier process computed on another backend or in another precision.
        """
        position = with_retries(self._folder, lambda: last_position(self._folder, self._numerics))
        if position is not None:
            seconds = sum(epoch.seconds for epoch in position.history)
            self._update(
                epoch=position.history[-1].epoch,
                seconds=seconds,
                started=utc_now() - timedelta(seconds=seconds),  # as if it had run without a pause
            )
        with_retries(self._folder, self._write)
        self._heartbeat.start()
        return position

    def epoch(self, epoch: Epoch, position: Callable[[], Position]) -> None:
        """Record a finished epoch, with a checkpoint if one is due; raise `StorageError` if that cannot be written."""
        now = time.monotonic()
        self._update(epoch=epoch.epoch, seconds=self.state.seconds + epoch.seconds)
        if now - self._kept >= self._checkpoint_seconds and epoch.epoch < epoch.epochs:
            reached = position()
            with_retries(self._folder, lambda: write_checkpoint(self._folder, reached, self._numerics))
            self._kept = now
        if now - self._written >= STATE_SECONDS:
            self._write_if_possible()

    def _update(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)

    def _write_if_possible(self) -> None:
        try:
            self._write()
        except StorageError as error:  # the trial then counts as stalled; its result is not affected
            log.warning("%s", error)

    def _write(self) -> None:
        with self._writing:
            self._written = time.monotonic()
            state = self.state.model_copy(update={"updated": utc_now()})
            write_json(self._folder / STATE, state.model_dump(mode="json"))

    def _beat(self) -> None:
        while not self._over.wait(ALIVE_SECONDS / 4):
            if time.monotonic() - self._written >= ALIVE_SECONDS:
                self._write_if_possible()


def utc_now() -> datetime:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def write_checkpoint(folder: Path, position: Position, numerics: Mapping[str, str | None]) -> None:
    """Replace the checkpoint in `folder`, a NumPy archive; raise `StorageError` if it cannot be written."""
    history = [asdict(epoch) for epoch in position.history]
    meta = {"rng": position.rng, "history": history, "numerics": dict(numerics)}
    arrays: dict[str, Any] = {f"state/{name}": array for name, array in position.state.items()}
    archive = io.BytesIO()
    np.savez(archive, **arrays, meta=np.array(json.dumps(meta)))
    write_atomically(folder / CHECKPOINT, archive.getvalue())


def last_position(folder: Path, numerics: Mapping[str, str | None] | None = None) -> Position | None:
    """Return the position in the checkpoint of `folder`; `None` if there is none, it is damaged, or made elsewhere.

    The latter is one of a trial with its activations in another storage: what follows would not be the same trial.
    Raises `StorageError` if it cannot be read now, `StudyMismatch` if it was not made with `numerics`.
    """
    file = folder / CHECKPOINT
    if not file.exists():
        return None
    with read_errors(file):  # read as a whole first, so that an error of the storage is not taken for a damaged archive
        content = file.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            meta = json.loads(str(archive["meta"]))
            state = {name.removeprefix("state/"): archive[name] for name in archive if name.startswith("state/")}
        position = Position(state, meta["rng"], [Epoch(**epoch) for epoch in meta["history"]])
        known, now = dict(meta["numerics"]), dict(numerics or meta["numerics"])
        before, kept = known.pop(ACTIVATIONS_KEPT, None), now.pop(ACTIVATIONS_KEPT, None)
        changes = list(differences(known, now))
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        # The result is the same from the first epoch.
        log.warning("%s is damaged, the trial starts from its first epoch: %s", file, error)
        return None
    if changes:
        raise StudyMismatch(
            f"Expected the backend and precision with which the checkpoint {file} was made.",
            received="; ".join(changes),
            advice=f"Remove {folder} to train from the first epoch, or go back to what it was started with.",
        )
    if before != kept:
        log.warning("%s was made with activations in %s, now %s: from the first epoch", file, before, kept)
        return None
    return position
