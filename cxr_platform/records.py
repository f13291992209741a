"""What a study's folder says of itself, to readers in every room: `study.json` and the `trial.json` of finished trials.

Only `/`, `glob` and `read_text` of the root are called, so that it may be a `Path` or what stands for one on a store.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cxr_platform.errors import StudyError

Key = tuple[str, int]
"""Strategy and fold."""

NOT_RECORDED = "not recorded"
"""For a person: what a study was run too early to say."""


@dataclass(frozen=True)
class FinishedTrial:
    """`seconds` of training and prediction; `images` it was trained on; `cpus` and `gpus` (fraction of a GPU) it held;
    `machine`, the processor and the GPUs of its node.

    `None` where the study was run before that was recorded.
    """

    strategy: str
    fold: int
    seconds: float
    images: int | None = None
    node: str | None = None
    started: datetime | None = None
    finished: datetime | None = None
    cpus: float | None = None
    gpus: float | None = None
    machine: str | None = None


def read_description(root: Path) -> dict[str, Any]:
    """The content of `study.json`; raises `StudyError` when it is absent or no JSON object."""
    try:
        tree = json.loads((root / "study.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise StudyError(f"Expected a study in {root}.", received="no study.json") from None
    except ValueError as error:
        raise StudyError(f"Expected JSON in {root / 'study.json'}.", received=error) from error
    if not isinstance(tree, dict):
        raise StudyError(f"Expected an object in {root / 'study.json'}.", received=type(tree).__name__)
    return tree


def finished_trials(root: Path, wanted: Collection[Key]) -> dict[Key, FinishedTrial | None]:
    """Those of `wanted` that are finished; `None` for one whose `trial.json` is damaged."""
    found = read_trial_files(root, "trials/*/fold-*/trial.json")
    trials = {(strategy, _number(folder)): tree for (strategy, folder), tree in found.items()}
    return {key: _finished(key, trials[key]) for key in sorted(trials.keys() & set(wanted))}


def read_trial_files(root: Path, pattern: str) -> dict[tuple[str, str], Mapping[str, Any] | None]:
    """JSON objects that `pattern` finds, by strategy and name of the trial's folder; `None` for a damaged one.

    A file that goes away between being listed and being read is left out: its trial has moved on.
    """
    found: dict[tuple[str, str], Mapping[str, Any] | None] = {}
    for file in root.glob(pattern):
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except ValueError:
            tree = None
        found[file.parent.parent.name, file.parent.name] = tree if isinstance(tree, dict) else None
    return found


def moment(text: str) -> datetime:
    """An ISO 8601 time, in UTC unless it says otherwise."""
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 knows no Z
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _number(folder: str) -> int:
    """3 of `fold-3`; -1 for what is no finished trial's folder."""
    digits = folder.removeprefix("fold-")
    return int(digits) if digits.isdecimal() else -1


def _finished(key: Key, tree: Mapping[str, Any] | None) -> FinishedTrial | None:
    if tree is None:
        return None
    try:
        return FinishedTrial(
            *key,
            seconds=float(tree["seconds"]["total"]),
            images=tree.get("images", {}).get("train"),
            node=tree.get("node"),
            started=moment(tree["started"]) if "started" in tree else None,
            finished=moment(tree["finished"]) if "finished" in tree else None,
            cpus=float(tree["cpus"]) if "cpus" in tree else None,
            gpus=float(tree["gpus"]) if "gpus" in tree else None,
            machine=_machine(tree["hardware"]) if "hardware" in tree else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _machine(hardware: Mapping[str, Any]) -> str:
    """As `8 × Xeon, 2 × RTX 4090`."""
    gpus = Counter(str(gpu) for gpu in hardware["gpus"])
    parts = [f"{hardware['processors']} × {hardware['processor']}", *(f"{n} × {gpu}" for gpu, n in gpus.items())]
    return ", ".join(parts)
