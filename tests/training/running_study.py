"""A study's files as a running study leaves them: finished trials, running ones, and nothing for those that wait."""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.study_records import study_record, trial_record, trial_state, write_record
from tests.training.builders import tiny_profile

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
STRATEGIES = ("off-the-shelf", "fine-tuning-1", "scratch")


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def begin(root: Path, strategies: tuple[str, ...] = STRATEGIES, folds: int = 2, **profile: Any) -> Path:
    write_record(
        root / "study.json",
        study_record(name=root.name, strategies=strategies, profile=tiny_profile(folds=folds, **profile)),
    )
    return root


def finish(root: Path, strategy: str, fold: int, seconds: float = 100.0, **facts: Any) -> Path:
    """Store the record of a finished trial on node `a`, with two processors and a quarter of a GPU."""
    return write_record(
        root / "trials" / strategy / f"fold-{fold}" / "trial.json", trial_record(strategy, fold, seconds, **facts)
    )


def run(root: Path, strategy: str, fold: int, **facts: Any) -> Path:
    """Store the state of a trial on node `b` after one of four epochs, written 20 seconds ago."""
    times = {"started": ago(minutes=10), "updated": ago(seconds=20)}
    state = trial_state(strategy, fold, **{**times, **facts})
    file = write_record(root / "trials" / strategy / f"fold-{fold}.run" / "state.json", state)
    os.utime(file, (state.updated.timestamp(), state.updated.timestamp()))
    return file
