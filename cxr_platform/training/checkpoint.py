"""A training's `Position` as a file: one NumPy archive, written between two epochs and read without pickle."""

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cxr_platform.storage.files import read_errors, write_atomically
from cxr_platform.training.trial import Epoch, Position

FILE = "position.npz"


def checkpoint_name(epoch: int) -> str:
    """The folder of the checkpoint after `epoch`; names sort as the epochs do."""
    return f"epoch-{epoch:05d}"


def epoch_of(checkpoint: Path) -> int:
    """The epoch after which `checkpoint` was written."""
    return int(checkpoint.name.removeprefix("epoch-"))


def write_checkpoint(folder: Path, position: Position) -> None:
    """Write `position` into `folder`, whole or not at all; `StorageError` where it cannot be."""
    story = {"rng": position.rng, "history": [asdict(epoch) for epoch in position.history]}
    arrays: dict[str, Any] = {f"state/{name}": array for name, array in position.state.items()}
    archive = io.BytesIO()
    np.savez(archive, **arrays, story=np.array(json.dumps(story)))
    write_atomically(folder / FILE, archive.getvalue())


def read_checkpoint(folder: Path) -> Position:
    """The position in `folder`; `ValueError` when it is not there whole, `StorageError` when it cannot be read now."""
    try:
        with np.load(io.BytesIO(_content(folder / FILE)), allow_pickle=False) as archive:
            story = json.loads(str(archive["story"]))
            state = {name.removeprefix("state/"): archive[name] for name in archive if name.startswith("state/")}
        return Position(state, story["rng"], [Epoch(**epoch) for epoch in story["history"]])
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"no whole checkpoint in {folder}: {error}") from error


def _content(file: Path) -> bytes:
    """Whole in memory first, so that an error of the place is not taken for one of the archive."""
    with read_errors(file):
        try:
            return file.read_bytes()
        except FileNotFoundError as error:
            raise ValueError(f"no whole checkpoint in {file.parent}: {error}") from error


def newest(run: Path) -> Path | None:
    """The checkpoint of the latest epoch below `run/attempt-*/` that can be read: one may have been cut off."""
    for checkpoint in sorted(run.glob("attempt-*/epoch-*"), key=epoch_of, reverse=True):
        try:
            read_checkpoint(checkpoint)
        except ValueError:
            continue
        return checkpoint
    return None
