import time

import pytest

from cxr_platform.cluster import connect
from cxr_platform.errors import ConfigError


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_at_which_nothing_listens_is_refused_at_once(address: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"Expected a Ray cluster at .*127\.0\.0\.1:1.*refused.*ray start --head"):
        connect(address)
    assert time.monotonic() - began < 30


def test_the_address_of_the_environment_counts_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1"):
        connect()
