import socket

import pytest
import ray

from cxr_platform.cluster import connect, connection
from cxr_platform.errors import ConfigError


def test_an_address_at_which_nothing_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # other tests of this process may be connected
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=f"Ray cluster at '127.0.0.1:{port}'"):
        connect(f"127.0.0.1:{port}")


@pytest.mark.ray
def test_a_connection_that_was_there_before_is_left_open() -> None:
    connect()
    with connection():
        assert ray.is_initialized()
    assert ray.is_initialized()
