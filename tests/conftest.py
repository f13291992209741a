"""Fixtures of all tests."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.serving.orthanc import Orthanc, orthanc
from tests.storage.object_store import object_store

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_AUTH_MODE", "token")  # before Ray is imported, like `pipelines.command`
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # before TensorFlow, so that all processes compute alike

settings.register_profile(
    "unattended", deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("unattended")  # the same examples in each run, of which none fails for its time

TWO_BACKENDS = ("step_tensorflow", "step_jax", "step_devices")
collect_ignore = [] if find_spec("tensorflow") else [f"training/test_{name}.py" for name in TWO_BACKENDS]
"""Not on the jax stack: tests of TensorFlow, or of both backends against each other."""

REPOSITORY = Path(__file__).resolve().parent.parent
SLOW = (
    *("champion", "cluster", "evidence", "explain", "models", "pipelines", "training"),
    *("serving/test_heatmap.py", "serving/test_page.py", "serving/test_deployment_explainer.py"),
    *("infra/test_watched.py", "intake/test_local_features.py", "monitoring/test_drift_of_images.py"),
)
"""Folders and files below tests/ that train or export networks or start a browser: `make test-fast` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `SLOW`."""
    slow = tuple(REPOSITORY / "tests" / place for place in SLOW)
    for item in items:
        if any(item.path.is_relative_to(place) for place in slow):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real X-rays beside the checkout; skips if there is none."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not (folder / "sources").is_dir():
        pytest.skip(f"the real X-rays are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def store_environment() -> Iterator[dict[str, str]]:
    """Variables with which a process reaches an S3 API on loopback."""
    with object_store() as environment:
        yield environment


@pytest.fixture
def store(store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """As `store_environment`, set in this process."""
    for name, value in store_environment.items():
        monkeypatch.setenv(name, value)
    return store_environment


@pytest.fixture(scope="session")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An empty PACS with DICOMweb on loopback; each test uses a study of its own."""
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running
