"""A study on disk: `study.json`, one folder a finished trial, and the pooled predictions.

A trial's folder is written beside its place and renamed into it, so that it is either whole or not there: a study
continues after any interruption by looking at which folders exist.
"""

import fcntl
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.errors import PredictionsError, StudyError, StudyMismatch
from cxr_platform.labels import CLASSES
from cxr_platform.models.strategies import STRATEGY_NAMES
from cxr_platform.training.data import StudyData
from cxr_platform.training.plan import StudyPlan, TrialKey, differences
from cxr_platform.training.storage import put_in_place, storage_errors, write_json
from cxr_platform.training.trial import Epoch, TrialResult

PREDICTIONS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id", "group_id", "source", "label", "strategy")),
        ("fold", pa.int32()),
        *((f"p_{label}", pa.float32()) for label in CLASSES),
    ]
)


class StudyFolder:
    """`runs/NAME/`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()  # Ray gives every trial a working directory of its own

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study for this process; `StudyError` when another one has it. Ends with the process in any case."""
        with storage_errors(self.root / ".lock"):
            self.root.mkdir(parents=True, exist_ok=True)
            stream = (self.root / ".lock").open("w")
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyError(
                    f"Expected nobody else to be running {self.root}.",
                    received="a process that holds it",
                    advice="Wait for it to end, or give this study another NAME.",
                ) from None
            yield

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

    def state_strategies(self, names: Iterable[str]) -> None:
        """Say in `study.json` which strategies the pooled predictions hold."""
        write_json(self.root / "study.json", {**self.description(), "strategies": list(names)})

    def description(self) -> dict[str, Any]:
        """The content of `study.json`; `StudyError` when it is absent or damaged."""
        try:
            content: dict[str, Any] = json.loads((self.root / "study.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StudyError(f"Expected a study in {self.root}.", received="no study.json") from None
        except ValueError as error:
            raise StudyError(
                f"Expected JSON in {self.root / 'study.json'}.", received=error, advice="Give another NAME."
            ) from error
        return content

    def complete(self, strategies: Iterable[str], folds: int) -> list[str]:
        """Those of `strategies` that are finished on every fold."""
        return [s for s in strategies if all(self.is_finished(TrialKey(s, fold)) for fold in range(folds))]

    def trial_folder(self, key: TrialKey) -> Path:
        """Where the trial's files are when it is finished."""
        return self.root / "trials" / key.strategy / f"fold-{key.fold}"

    def is_finished(self, key: TrialKey) -> bool:
        """Whether the trial's files are there, whole."""
        return (self.trial_folder(key) / "trial.json").exists()

    def write_trial(self, key: TrialKey, data: StudyData, result: TrialResult, facts: Mapping[str, Any]) -> None:
        """Store a finished trial: `trial.json`, `history.parquet`, `predictions.parquet`, `model.weights.h5`."""
        final = self.trial_folder(key)
        partial = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
        with storage_errors(final):
            partial.mkdir(parents=True)
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
            put_in_place(partial, final)

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
        target = self.root / "predictions.parquet"
        partial = self.root / f".predictions.{uuid.uuid4().hex}.parquet"
        with storage_errors(target):
            tables = [pq.read_table(self.trial_folder(key) / "predictions.parquet") for key in wanted]
            pq.write_table(pa.concat_tables(tables), partial)
            partial.replace(target)
        return target

    def _check_same(self, plan: StudyPlan, known: Mapping[str, Any]) -> None:
        changes = list(differences(known["identity"], json.loads(json.dumps(plan.identity()))))
        if changes:
            raise StudyMismatch(
                f"Expected the configuration and manifest with which the study in {self.root} was started.",
                received="; ".join(changes),
                advice="Give the study another NAME, or go back to what it was started with.",
            )

    def _remove_leftovers(self) -> None:
        """What an interrupted run was writing."""
        for leftover in self.root.glob("trials/*/.fold-*"):
            shutil.rmtree(leftover, ignore_errors=True)


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
