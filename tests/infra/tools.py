"""kubectl (for its kustomize) and hadolint, as their packages of the extra `dev` install them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """The path of a program: beside this Python first, as another version may be on the PATH. Fails where it is not."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if not path:
        pytest.fail(f"Expected {name}, which a package of the extra `dev` brings. Run `make setup`.")
    return path


def run(*words: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Exit code and text of a program, whatever it says; `given` is its standard input."""
    return subprocess.run([str(word) for word in words], input=given, capture_output=True, text=True, timeout=60)
