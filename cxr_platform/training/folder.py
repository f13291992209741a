"""A study on disk: `study.json`, one folder per finished trial, and the pooled predictions.

    study.json                                   StudyRecord
    trials/STRATEGY/fold-K/                      a finished trial: trial.json, history.parquet, predictions.parquet,
                                                 model.weights.h5
    trials/STRATEGY/fold-K.run/                  a trial that is not finished (`running_trial`)
    champion/STRATEGY/                           a trial on all images, without predictions.parquet
    predictions.parquet                          the predictions of all strategies that are finished on every fold

A trial's folder is complete or absent (`storage.files`), so that a study continues after any interruption, on any
machine: the trials whose folder exists are finished. The root may be in an object store; while that answers with
errors, reading and writing are repeated (`storage.retry`).
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.config import Precision, Profile, Protocol, Storage
from cxr_platform.domain.strategies import EVERY_STRATEGY, ordered
from cxr_platform.domain.study import NO_FOLD, ActivationRates, StudyRecord, TrialKey, TrialRecord, read_study
from cxr_platform.errors import PredictionsError, StorageError, StudyError, StudyMismatch
from cxr_platform.storage.files import (
    make_folder,
    new_folder,
    read_errors,
    remove,
    remove_unneeded,
    write_atomically,
    write_errors,
    write_json,
)
from cxr_platform.storage.lock import LockCheck, folder_lock
from cxr_platform.storage.paths import absolute, is_remote
from cxr_platform.storage.retry import with_retries
from cxr_platform.storage.trial_files import finished_folder, list_trial_files, read_each, read_records
from cxr_platform.training.data import StudyData
from cxr_platform.training.devices import hardware, package_versions
from cxr_platform.training.plan import StudyPlan, identity_differences, study_identity
from cxr_platform.training.running_trial import utc_now
from cxr_platform.training.trial import TrialResult
from cxr_platform.training.trial_tables import history_table, parse_predictions, predictions_table
from cxr_platform.validation import parse_record

HISTORY, WEIGHTS = "history.parquet", "model.weights.h5"
PROBE_BYTES = 2**20


class StudyFolder:
    """`runs/NAME/`."""

    def __init__(self, root: Path) -> None:
        self.root = absolute(root)  # Ray gives every trial a working directory of its own
        self._check: LockCheck | None = None
        self._sound: set[TrialKey] = set()  # trials whose record was read

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, which one process holds, and what this process has read."""
        return {"root": self.root, "_check": None, "_sound": set()}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study for this process (`storage.lock`); raise `StorageError` if another one has it."""
        with folder_lock(
            self.root, f"the study {self.root}", "Wait for it to end, or give another --name."
        ) as self._check:
            yield

    def check_held(self) -> None:
        """Raise `StorageError` if this process held the study and has lost the lock."""
        if self._check is not None:
            self._check()

    def is_writable(self, key: TrialKey) -> bool:
        """Return True if this process can write a file of `PROBE_BYTES` where the trial does."""
        probe = self.running_folder(key) / ".probe"
        try:
            with write_errors(probe):
                make_folder(probe.parent)
                write_atomically(probe, bytes(PROBE_BYTES))
                remove(probe)
        except StorageError:
            return False
        return True

    @property
    def champion_root(self) -> Path:
        """Folder of the trials that are trained on all images."""
        return self.root / "champion"

    def start(self, plan: StudyPlan) -> None:
        """Write `study.json`, or continue the study that it describes; earlier strategies stay if they are complete.

        Raises `StudyMismatch` with the differences if the folder holds a study of another configuration or manifest,
        `StorageError` if it cannot be written.
        """
        if known := self.known_record():
            strategies = ordered([*self.complete(known.strategies, plan.profile.folds), *plan.strategies])
            identity = replace(plan, strategies=strategies).identity()
            self._check_identity(known, identity)
            now = {
                "name": plan.name,
                "strategies": strategies,
                "identity": {**known.identity, **identity},
                "profile": plan.profile,
                "manifest": plan.manifest,
            }
            record = known.model_copy(update=now)
        else:
            record = StudyRecord(
                name=plan.name,
                protocol=plan.protocol,
                strategies=plan.strategies,
                folds=plan.profile.folds,
                identity=plan.identity(),
                profile=plan.profile,
                manifest=plan.manifest,
                versions=package_versions(),
                hardware=hardware(),
                started=utc_now(),
                left_out=plan.left_out,
            )
        self._remove_leftovers()
        self._write(record)

    def known_manifest(self, profile: Profile, protocol: Protocol) -> str | None:
        """Return the content hash of the manifest of the study in this folder, or `None` if there is no study.

        Raises `StudyMismatch` if that study has other settings than `profile` and `protocol`.
        """
        known = self.known_record()
        if known is None:
            return None
        content_hash = known.manifest.content_hash
        if protocol == "origins":  # as many folds as origins, whatever the profile says
            profile = replace(profile, folds=known.folds)
        self._check_identity(known, study_identity(profile, protocol, content_hash, left_out=known.left_out))
        return content_hash

    def set_precision(self, precision: Precision) -> None:
        """Add the precision of all trials to the study's identity, before the first of them.

        Raises `StudyMismatch` if earlier trials were trained in another one.
        """
        known = self.record()
        identity = {**known.identity, "precision": precision}
        if "precision" in known.identity:
            self._check_identity(known, identity)
        else:
            self._write(known.model_copy(update={"identity": identity}))

    def known_activations(self) -> dict[str, Storage]:
        """Return cut → where the activations were kept, of the cuts of which a trial has begun."""
        known, files = self.known_record(), list_trial_files(self.root)
        begun = {key.strategy for key in (*files.finished, *files.running)}
        cuts = {strategy.cut for strategy in EVERY_STRATEGY if strategy.name in begun}
        return {cut: storage for cut, storage in known.activations.items() if cut in cuts} if known else {}

    def set_activations(self, chosen: Mapping[str, Storage], rates: ActivationRates | None) -> None:
        """Add to `study.json` where activations are kept, by cut, and why, so that a continued study keeps to it."""
        known = self.known_record()
        if known and not chosen.items() <= known.activations.items():
            now = {"activations": {**known.activations, **chosen}, "activation_rates": rates or known.activation_rates}
            self._write(known.model_copy(update=now))

    def set_strategies(self, names: Iterable[str]) -> None:
        """Write into `study.json` which strategies the pooled predictions hold."""
        self._write(self.record().model_copy(update={"strategies": tuple(names)}))

    def known_record(self) -> StudyRecord | None:
        """Return the content of `study.json`, `None` if there is none; raise `StudyError` if it is damaged."""
        file = self.root / "study.json"
        with read_errors(file):
            begun = with_retries(file, file.exists)
        return self.record() if begun else None

    def record(self) -> StudyRecord:
        """Return the content of `study.json`; raise `StudyError` if it is absent or damaged."""
        with read_errors(self.root, remote_only=True):
            return with_retries(self.root, lambda: read_study(self.root))

    def complete(self, strategies: Iterable[str], folds: int) -> tuple[str, ...]:
        """Return those of `strategies` that are finished on every fold."""
        names = tuple(strategies)
        finished = self.finished(TrialKey(name, fold) for name in names for fold in range(folds))
        return tuple(name for name in names if all(TrialKey(name, fold) in finished for fold in range(folds)))

    def finished(self, wanted: Iterable[TrialKey]) -> set[TrialKey]:
        """Return those of `wanted` that are stored, by one listing of the folder.

        Records that this object has not read yet are read; a trial whose `trial.json` is damaged has to be run again.
        """
        files, wanted = list_trial_files(self.root).finished, set(wanted)
        unread = wanted - self._sound
        self._sound |= {key for key, record in read_records(TrialRecord, files, unread).items() if record is not None}
        return wanted & self._sound & files.keys()

    def trial_folder(self, key: TrialKey) -> Path:
        """Return the folder of the finished trial."""
        if key.fold == NO_FOLD:
            return self.champion_root / key.strategy
        return finished_folder(self.root, key)

    def running_folder(self, key: TrialKey) -> Path:
        """Return the folder of the trial while it runs."""
        final = self.trial_folder(key)
        return final.with_name(f"{final.name}.run")

    def is_finished(self, key: TrialKey) -> bool:
        """Return True if the trial is stored; one whose `trial.json` is damaged has to be run again."""
        self._sound.discard(key)
        try:
            self.trial_record(key)
        except (FileNotFoundError, NotADirectoryError, StudyError):
            return False
        self._sound.add(key)
        return True

    def trial_record(self, key: TrialKey) -> TrialRecord:
        """Return the record of a finished trial; raise `StudyError` if it is damaged."""
        file = self.trial_folder(key) / "trial.json"
        with read_errors(file, remote_only=True):
            content = with_retries(file, file.read_bytes)
        advice = f"Remove {file.parent} and run the same command again."
        return parse_record(TrialRecord, content, str(file), StudyError, advice)

    def write_trial(self, record: TrialRecord, data: StudyData, result: TrialResult) -> None:
        """Store a finished trial: `trial.json`, `history.parquet`, `predictions.parquet`, `model.weights.h5`.

        The weights are those above the cut, as the frozen ones are ImageNet's; of a champion they are all.

        A trial that is already stored stays as it is: after the loss of a head node, an earlier attempt may finish on
        a node that has not noticed, beside the attempt that replaced it.
        """
        try:
            if not self.is_finished(record.key):
                self._write_trial(record, data, result)
        except StorageError:
            if not self.is_finished(record.key):
                raise
        remove_unneeded(self.running_folder(record.key))

    def _write_trial(self, record: TrialRecord, data: StudyData, result: TrialResult) -> None:
        with new_folder(self.trial_folder(record.key), "trial.json") as partial:
            pq.write_table(history_table(result.history), partial / HISTORY)
            if record.fold == NO_FOLD:
                result.network.full.save_weights(partial / WEIGHTS)
            else:
                rows = data.rows_of_fold(record.fold)
                table = predictions_table(record.key, data, rows, result.probabilities, result.indeterminate)
                pq.write_table(table, partial / "predictions.parquet")
                result.network.upper.save_weights(partial / WEIGHTS)
            (partial / "trial.json").write_bytes(record.to_json())

    def pool(self, keys: Iterable[TrialKey]) -> Path:
        """Join the trials' predictions into `predictions.parquet`; `PredictionsError` names trials that are missing."""
        wanted = sorted(keys)
        finished = self.finished(wanted)
        missing = [str(key) for key in wanted if key not in finished]
        if missing:
            raise PredictionsError(
                f"Expected every trial of {self.root} to be finished.",
                received=f"{len(missing)} unfinished: {', '.join(missing[:8])}{', …' if len(missing) > 8 else ''}",
                advice="Run the same command again: finished trials are kept.",
            )
        files = [self.trial_folder(key) / "predictions.parquet" for key in wanted]
        tables = (parse_predictions(key, *read) for key, read in zip(wanted, read_each(files), strict=True))
        target, pooled = self.root / "predictions.parquet", io.BytesIO()
        pq.write_table(pa.concat_tables(tables, promote_options="default"), pooled)
        with_retries(target, lambda: write_atomically(target, pooled.getvalue()))
        return target

    def _check_identity(self, known: StudyRecord, identity: dict[str, Any]) -> None:
        changes = identity_differences(known.identity, identity)
        if changes:
            raise StudyMismatch(
                f"Expected the configuration and manifest with which the study in {self.root} was started.",
                received="; ".join(changes),
                advice="Give the study another NAME, or go back to what it was started with.",
            )

    def _write(self, record: StudyRecord) -> None:
        with_retries(self.root, lambda: write_json(self.root / "study.json", record.model_dump(mode="json")))

    def _remove_leftovers(self) -> None:
        """Remove partly written trial folders of an interrupted run. An object store has none."""
        for leftover in () if is_remote(self.root) else self.root.glob("trials/*/.fold-*"):
            remove(leftover)
