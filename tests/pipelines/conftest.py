"""A study and a registry that the tests of several modules share; the study is trained once."""

from pathlib import Path

import pytest

from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from tests.pipelines.small_study import make_study
from tests.registry.builders import make_registry


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images`, their `manifest`, the study `runs/t` of one strategy, and its profile `tiny.toml`."""
    return make_study(tmp_path_factory.mktemp("work"), per_class=8)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Three versions of 80, 85 and 79 % accuracy; the first is the champion."""
    made = make_registry(tmp_path / "registry", 80, 85, 79)
    promote(made, "v1", lead_seconds=0)
    return made
