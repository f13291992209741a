"""The champion's run on disk: `STRATEGY/` when it is finished, `STRATEGY.run/` with its checkpoints until then.

`STRATEGY/` holds `model.weights.h5` (of `Network.full`), `history.parquet` and `champion.json`. It is renamed into its
place as a whole, so that what stands there is finished.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cxr_platform.config import differences
from cxr_platform.errors import StudyError, StudyMismatch
from cxr_platform.models.mobilenet import Network
from cxr_platform.storage.files import children, new_folder, remove, write_json
from cxr_platform.storage.paths import absolute, is_remote
from cxr_platform.training.checkpoint import newest
from cxr_platform.training.folder import history_table
from cxr_platform.training.trial import Epoch

FACTS, WEIGHTS, HISTORY, IDENTITY = "champion.json", "model.weights.h5", "history.parquet", "identity.json"


@dataclass(frozen=True)
class ChampionRun:
    """A finished run. `identity` is what was asked for, `facts` the rest of `champion.json`."""

    folder: Path
    identity: dict[str, Any]
    facts: dict[str, Any]

    @property
    def weights(self) -> Path:
        """Keras weights of the whole network (`Network.full`)."""
        return self.folder / WEIGHTS

    @property
    def history(self) -> Path:
        """One row an epoch, as a trial's."""
        return self.folder / HISTORY


def read_champion(folder: Path) -> ChampionRun:
    """The finished run in `folder` (`runs/NAME/champion/STRATEGY`); `StudyError` for none or a damaged one."""
    if not (folder / FACTS).exists():
        raise StudyError(
            f"Expected a trained champion in {folder}.", received=f"no {FACTS}", advice="Train it with `make champion`."
        )
    facts = _read(folder / FACTS, "identity")
    return ChampionRun(folder, facts.pop("identity"), facts)


def _read(file: Path, *keys: str) -> dict[str, Any]:
    """A JSON object that has `keys`."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content.keys() >= set(keys):
            raise ValueError("something else")
    except ValueError as error:
        raise StudyError(
            f"Expected what a champion's run wrote in {file}.",
            received=error,
            advice="Remove the folder and train it again.",
        ) from error
    return content


class ChampionFolder:
    """Where one strategy's run is stored below `runs/NAME/champion/`."""

    def __init__(self, root: Path, strategy: str) -> None:
        self.final = absolute(root) / strategy  # Ray gives its workers a working directory of their own
        self.run = self.final.with_name(f"{strategy}.run")

    def is_finished(self) -> bool:
        """Whether the result is there, whole."""
        return (self.final / FACTS).exists()

    def begin(self, identity: Mapping[str, Any]) -> Path | None:
        """Begin the run of `identity`, or continue it. Returns the checkpoint to go on from, if there is one.

        What interrupted attempts left besides is removed. Raises `StudyMismatch` with the differences when the run or
        the result that is there has another identity, `StorageError` when the place cannot be written.
        """
        if self.is_finished():
            self._check_same(self.final, read_champion(self.final).identity, identity)
            return None
        if (self.run / IDENTITY).exists():
            self._check_same(self.run, _read(self.run / IDENTITY), identity)
        else:
            write_json(self.run / IDENTITY, identity)
        return self._keep_newest()

    def store(self, network: Network, history: Sequence[Epoch], facts: Mapping[str, Any]) -> None:
        """Write the result and put it in its place."""
        identity = _read(self.run / IDENTITY)
        with new_folder(self.final, FACTS) as partial:
            network.full.save_weights(partial / WEIGHTS)
            pq.write_table(history_table(history), partial / HISTORY)
            content = {"schema_version": 1, "identity": identity, **facts}
            (partial / FACTS).write_text(json.dumps(content, indent=1), encoding="utf-8")

    def clean_up(self) -> None:
        """Remove the checkpoints of a finished run."""
        remove(self.run)

    def _keep_newest(self) -> Path | None:
        kept = newest(self.run)
        for attempt in self.run.glob("attempt-*"):
            for leftover in children(attempt) if kept and attempt == kept.parent else [attempt]:
                if leftover != kept:
                    remove(leftover)
        for leftover in () if is_remote(self.final) else self.final.parent.glob(f".{self.final.name}.*"):
            remove(leftover)
        return kept

    def _check_same(self, place: Path, known: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        changes = list(differences(known, json.loads(json.dumps(identity))))
        if changes:
            raise StudyMismatch(
                f"Expected the configuration and manifest with which the champion in {place} was begun.",
                received="; ".join(changes),
                advice="Remove that folder to train it anew, or go back to what it was begun with.",
            )
