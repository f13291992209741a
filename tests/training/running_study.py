"""A study's files as a running study leaves them: finished trials, running ones, and nothing for those that wait."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.training.builders import tiny_profile

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
STRATEGIES = ("off-the-shelf", "fine-tuning-1", "scratch")


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat(timespec="seconds")


def begin(root: Path, strategies: tuple[str, ...] = STRATEGIES, folds: int = 2, **profile: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    settings = tiny_profile(folds=folds, **profile).to_dict()
    tree = {"name": root.name, "strategies": list(strategies), "folds": folds, "profile": settings}
    (root / "study.json").write_text(json.dumps(tree))
    return root


def finish(root: Path, strategy: str, fold: int, seconds: float = 100.0, **facts: Any) -> Path:
    """A finished trial on node `a`, two processors and a quarter of a GPU; a fact that is None is not recorded."""
    recorded = {
        "strategy": strategy,
        "fold": fold,
        "seconds": {"total": seconds, "set_up": 1.0, "prediction": 1.0},
        "images": {"train": 28, "test": 28},
        "node": "a",
        "started": ago(hours=1),
        "finished": ago(minutes=30),
        "cpus": 2.0,
        "gpus": 0.25,
        **facts,
    }
    content = {name: fact for name, fact in recorded.items() if fact is not None}
    return _write(root / "trials" / strategy / f"fold-{fold}" / "trial.json", content)


def run(root: Path, strategy: str, fold: int, **facts: Any) -> Path:
    """A running trial on node `b`, at epoch 1 of 4, that was heard of 20 seconds ago."""
    state = {
        "strategy": strategy,
        "fold": fold,
        "node": "b",
        "started": ago(minutes=10),
        "updated": ago(seconds=20),
        "epoch": 1,
        "epochs": 4,
        "seconds": 50.0,
        "cpus": 2.0,
        "gpus": 0.25,
        **facts,
    }
    return _write(root / "trials" / strategy / f"fold-{fold}.run" / "state.json", state)


def _write(file: Path, content: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    return file
