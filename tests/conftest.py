"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_AUTH_MODE", "token")  # before Ray is imported, as the verbs do

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real X-rays beside the checkout; skips where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not (folder / "sources").is_dir():
        pytest.skip(f"the real X-rays are not at {folder}")
    return folder
