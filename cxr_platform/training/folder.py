"""A study on disk: `study.json`, one folder a finished trial, and the pooled predictions.

A trial's folder is whole or not there (`storage.files`): a study continues after any interruption, on whatever machine,
by looking at which folders exist. The root may be in an object store.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.config import differences
from cxr_platform.domain.predictions import PREDICTIONS_SCHEMA
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import PredictionsError, StorageError, StudyError, StudyMismatch
from cxr_platform.labels import CLASSES
from cxr_platform.records import read_description
from cxr_platform.storage.files import (
    make_folder,
    new_folder,
    read_errors,
    remove,
    write_atomically,
    write_errors,
    write_json,
)
from cxr_platform.storage.lock import Check, folder_lock
from cxr_platform.storage.paths import absolute, is_remote
from cxr_platform.training.data import StudyData
from cxr_platform.training.plan import StudyPlan
from cxr_platform.training.trial import Epoch, TrialResult

PROBE_BYTES = 2**20
STATED = ("identity", "strategies", "folds")
"""What a `study.json` says that can be continued or reported."""


class StudyFolder:
    """`runs/NAME/`."""

    def __init__(self, root: Path) -> None:
        self.root = absolute(root)  # Ray gives every trial a working directory of its own
        self._check: Check | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What trials elsewhere need; the lock is held by one process."""
        return {"root": self.root, "_check": None}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study for this process (`storage.lock`); `StorageError` when another one has it."""
        with folder_lock(self.root) as self._check:
            yield

    def check_held(self) -> None:
        """Raises `StorageError` when this process held the study, and another one may have it by now."""
        if self._check is not None:
            self._check()

    def can_keep(self, key: TrialKey) -> bool:
        """Whether this process can write, and some more than a few bytes, where the trial does."""
        probe = self.running_folder(key) / ".probe"
        try:
            with write_errors(probe):
                make_folder(probe.parent)
                write_atomically(probe, bytes(PROBE_BYTES))
                remove(probe)
        except StorageError:
            return False
        return True

    def start(self, plan: StudyPlan, facts: Mapping[str, Any]) -> None:
        """Write `study.json`, or continue the study that it describes; earlier strategies stay if they are complete.

        `facts` are versions, hardware and the date. Raises `StudyMismatch` with the differences when the folder holds
        a study of another configuration or manifest, `StorageError` when it cannot be written.
        """
        strategies = plan.strategies
        if (self.root / "study.json").exists():
            known = self.description()
            self._check_same(plan, known)
            facts = {key: known[key] for key in facts if key in known}
            together = {*self.complete(known["strategies"], plan.profile.folds), *plan.strategies}
            strategies = tuple(name for name in STRATEGY_NAMES if name in together)
        self._remove_leftovers()
        description = {
            "schema_version": 1,
            "name": plan.name,
            "protocol": plan.protocol,
            "strategies": list(strategies),
            "folds": plan.profile.folds,
            "identity": plan.identity(),
            "profile": plan.profile.to_dict(),
            "manifest": dict(plan.manifest),
            **facts,
        }
        write_json(self.root / "study.json", description)

    def begun_with(self, plan: StudyPlan) -> str | None:
        """Content hash of the manifest of the study that stands here; `None` where none does.

        Raises `StudyMismatch` where `plan`, whatever its manifest, is not of that study.
        """
        if not (self.root / "study.json").exists():
            return None
        known = self.description()
        found = str(known["identity"].get("manifest"))
        self._check_same(replace(plan, manifest={"content_hash": found}), known)
        return found

    def state_strategies(self, names: Iterable[str]) -> None:
        """Say in `study.json` which strategies the pooled predictions hold."""
        write_json(self.root / "study.json", {**self.description(), "strategies": list(names)})

    def description(self) -> dict[str, Any]:
        """The content of `study.json`; `StudyError` when it is absent, damaged or another program's."""
        content = read_description(self.root)
        missing = [name for name in STATED if name not in content]
        if missing:
            raise StudyError(
                f"Expected {', '.join(STATED)} in {self.root / 'study.json'}.",
                received=f"no {', '.join(missing)}",
                advice="Give another NAME.",
            )
        return content

    def complete(self, strategies: Iterable[str], folds: int) -> list[str]:
        """Those of `strategies` that are finished on every fold."""
        return [s for s in strategies if all(self.is_finished(TrialKey(s, fold)) for fold in range(folds))]

    def trial_folder(self, key: TrialKey) -> Path:
        """Where the trial's files are when it is finished."""
        return self.root / "trials" / key.strategy / f"fold-{key.fold}"

    def running_folder(self, key: TrialKey) -> Path:
        """What the trial leaves while it runs (`running.Running`)."""
        return self.trial_folder(key).with_name(f"fold-{key.fold}.run")

    def epoch_of(self, key: TrialKey) -> int:
        """The last epoch that a running trial told of; 0 where it told of none."""
        try:
            return int(json.loads((self.running_folder(key) / "state.json").read_text(encoding="utf-8"))["epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def is_finished(self, key: TrialKey) -> bool:
        """Whether the trial's files are there, whole; one whose `trial.json` is damaged is to be run again."""
        file = self.trial_folder(key) / "trial.json"
        try:
            with read_errors(file, remote_only=True):
                content = file.read_bytes()
            return isinstance(json.loads(content), dict)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False

    def write_trial(self, key: TrialKey, data: StudyData, result: TrialResult, facts: Mapping[str, Any]) -> None:
        """Store a finished trial: `trial.json`, `history.parquet`, `predictions.parquet`, `model.weights.h5`.

        One that is finished already stays as it is: after the loss of a head a trial of before may still come to its
        end on a node that has not noticed, beside the one that took its place.
        """
        try:
            if not self.is_finished(key):
                self._write_trial(key, data, result, facts)
        except StorageError:
            if not self.is_finished(key):
                raise
        remove(self.running_folder(key))

    def _write_trial(self, key: TrialKey, data: StudyData, result: TrialResult, facts: Mapping[str, Any]) -> None:
        with new_folder(self.trial_folder(key), "trial.json") as partial:
            test = data.rows_of_fold(key.fold)
            pq.write_table(history_table(result.history), partial / "history.parquet")
            pq.write_table(predictions_table(key, data, test, result.probabilities), partial / "predictions.parquet")
            result.network.upper.save_weights(partial / "model.weights.h5")
            summary = {
                "strategy": key.strategy,
                "fold": key.fold,
                "cut": result.network.strategy.cut,
                "trained_layers": result.network.trained_layers,
                "images": {"train": len(data.labels) - len(test), "test": len(test)},
                "accuracy": float(np.mean(result.probabilities.argmax(1) == data.labels[test])),
                "seconds": result.seconds,
                **facts,
            }
            (partial / "trial.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")

    def trial_summary(self, key: TrialKey) -> dict[str, Any]:
        """The content of a finished trial's `trial.json`."""
        content: dict[str, Any] = json.loads((self.trial_folder(key) / "trial.json").read_text(encoding="utf-8"))
        return content

    def pool(self, keys: Iterable[TrialKey]) -> Path:
        """Join the trials' predictions into `predictions.parquet`; `PredictionsError` names trials that are missing."""
        wanted = sorted(keys)
        missing = [str(key) for key in wanted if not self.is_finished(key)]
        if missing:
            raise PredictionsError(
                f"Expected every trial of {self.root} to be finished.",
                received=f"{len(missing)} unfinished: {', '.join(missing[:8])}{', …' if len(missing) > 8 else ''}",
                advice="Run the same command again: finished trials are kept.",
            )
        target, pooled = self.root / "predictions.parquet", io.BytesIO()
        pq.write_table(pa.concat_tables(map(self._predictions, wanted)), pooled)
        write_atomically(target, pooled.getvalue())
        return target

    def _predictions(self, key: TrialKey) -> pa.Table:
        file = self.trial_folder(key) / "predictions.parquet"
        try:
            with read_errors(file):
                content = file.read_bytes()
            return pq.read_table(io.BytesIO(content)).cast(PREDICTIONS_SCHEMA)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise PredictionsError(
                f"Expected the predictions of {key} in {file}.",
                received=error,
                advice=f"Remove {file.parent}: the same command then runs this trial again.",
            ) from error

    def _check_same(self, plan: StudyPlan, known: Mapping[str, Any]) -> None:
        changes = list(differences(known["identity"], json.loads(json.dumps(plan.identity()))))
        if changes:
            raise StudyMismatch(
                f"Expected the configuration and manifest with which the study in {self.root} was started.",
                received="; ".join(changes),
                advice="Give the study another NAME, or go back to what it was started with.",
            )

    def _remove_leftovers(self) -> None:
        """What an interrupted run was writing, where that has another name than what is finished."""
        for leftover in () if is_remote(self.root) else self.root.glob("trials/*/.fold-*"):
            remove(leftover)


def history_table(history: Iterable[Epoch]) -> pa.Table:
    """One row an epoch."""
    return pa.Table.from_pylist([asdict(epoch) for epoch in history])


def predictions_table(key: TrialKey, data: StudyData, rows: np.ndarray, probabilities: np.ndarray) -> pa.Table:
    """Out-of-fold predictions of `rows` in the schema of the design; `probabilities` (len(rows), 7)."""
    columns = {
        "image_id": data.image_ids[rows],
        "group_id": data.group_ids[rows],
        "source": data.sources[rows],
        "label": np.array(CLASSES)[data.labels[rows]],
        "strategy": [key.strategy] * len(rows),
        "fold": np.full(len(rows), key.fold, "int32"),
        **{f"p_{label}": probabilities[:, i] for i, label in enumerate(CLASSES)},
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)
