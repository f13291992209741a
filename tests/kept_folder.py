"""A folder for what is made once and kept for all tests of a process."""

import atexit
import tempfile
from pathlib import Path


def kept_folder() -> Path:
    """A new one, which goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="cxr-kept-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
