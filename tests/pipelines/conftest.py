"""A study that the tests of several verbs share: it is trained once."""

from pathlib import Path

import pytest

from tests.pipelines.small_study import make_study


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images`, their `manifest`, the study `runs/t` of one strategy, and its profile `tiny.toml`."""
    return make_study(tmp_path_factory.mktemp("work"), per_class=8)
