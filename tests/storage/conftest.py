from collections.abc import Iterator

import pytest

from tests.storage.object_store import object_store


@pytest.fixture(scope="session")
def store_environment() -> Iterator[dict[str, str]]:
    with object_store() as environment:
        yield environment


@pytest.fixture
def store(store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An S3 API that this process reaches."""
    for name, value in store_environment.items():
        monkeypatch.setenv(name, value)
    return store_environment
