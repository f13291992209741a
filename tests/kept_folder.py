"""Folders for results that are computed once and used by all tests of a process."""

import atexit
import tempfile
from pathlib import Path


def kept_folder() -> Path:
    """Return a new folder that is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="cxr-kept-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
