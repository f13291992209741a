"""kubectl (for its kustomize) and hadolint, as their packages of the extra `dev` install them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Return the path of a program: the one beside this Python, or one on the PATH; fail if there is none."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if not path:
        pytest.fail(f"Expected {name}, which a package of the extra `dev` brings. Run `make setup`.")
    return path


def run(*words: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program with `given` as its standard input, and return its exit code and output."""
    return subprocess.run([str(word) for word in words], input=given, capture_output=True, text=True, timeout=60)
