"""Which requests are answered, without keys and with them."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.serving.access import check_access, check_exposure, is_loopback, key_from_headers
from cxr_platform.serving.api_keys import parse_keys
from cxr_platform.serving.problems import Problem

KEY = "one-key-of-sixteen-and-more"


def request(method: str = "POST", client: str = "127.0.0.1", version: str = "1.1", **headers: str) -> dict[str, Any]:
    """Return a scope; `headers` with underscores for hyphens, the host localhost:8000 if they name none."""
    given = {"host": "localhost:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "method": method,
        "path": "/v1/model",
        "http_version": version,
        "client": (client, 50000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
    }


def refusal(scope: dict[str, Any]) -> str | None:
    """Return the reason for which a server without keys refuses a request."""
    try:
        check_access(None, scope)
    except Problem as problem:
        return problem.reason
    return None


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:9000", "127.1.2.3", "[::1]:8000", "LOCALHOST"]
)
def test_a_program_on_this_machine_is_answered(host: str) -> None:
    assert refusal(request(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "192.0.2.7", "0.0.0.0:8000", ""),
        *("localhost/evil", "evil@localhost", "localhost:evil", "localhost:", "localhost?evil", "localhost:8000#"),
        *("[::1", "::1", "[::1]evil", "[localhost]", "a b", "localhost\u00b9", "127.0.0.\u00b2"),
    ],
)
def test_a_name_of_another_machine_is_refused(host: str) -> None:
    """DNS rebinding: the page of evil.example is of the same origin as this server under that name."""
    own = {"origin": f"http://{host}", "sec_fetch_site": "same-origin"}
    assert refusal(request(host=host)) == refusal(request("GET", host=host, **own)) == "wrong-host"


def test_the_host_is_named_once() -> None:
    scope = request()
    scope["headers"].append((b"host", b"evil.example"))
    assert refusal(scope) == "wrong-host"
    assert refusal({**scope, "headers": []}) == "wrong-host"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:3000", "http://localhost", "http://127.0.0.1:8000", ""]
)
def test_a_request_of_another_origin_is_refused(origin: str) -> None:
    assert refusal(request(origin=origin)) == "cross-site"
    assert refusal(request("GET", origin=origin)) == "cross-site"


@pytest.mark.parametrize("site", ["cross-site", "same-site", ""])
def test_a_request_of_another_site_is_refused_unless_the_user_follows_a_link(site: str) -> None:
    """Older browsers send no Origin with a form, and none sends it with an image or a script."""
    assert refusal(request(sec_fetch_site=site)) == "cross-site"
    assert refusal(request("GET", sec_fetch_site=site, sec_fetch_mode="no-cors")) == "cross-site"
    assert refusal(request(sec_fetch_site=site, sec_fetch_mode="navigate")) == "cross-site", "a form"
    assert refusal(request("GET", sec_fetch_site=site, sec_fetch_mode="navigate")) is None


def test_the_page_of_this_server_is_answered() -> None:
    assert refusal(request(origin="http://localhost:8000", sec_fetch_site="same-origin")) is None
    assert refusal(request(origin="https://localhost:8000", sec_fetch_site="same-origin")) is None
    assert refusal(request("GET", sec_fetch_site="none", sec_fetch_mode="navigate")) is None
    assert refusal(request(origin="null", sec_fetch_site="same-origin")) is None
    assert refusal(request(origin="null", sec_fetch_site="cross-site")) == "cross-site", "a frame in a sandbox"


@pytest.mark.parametrize(
    ("header", "own", "other"),
    [
        ("origin", "http://localhost:8000", "http://evil.example"),
        ("sec-fetch-site", "same-origin", "cross-site"),
        ("sec-fetch-mode", "navigate", "no-cors"),
    ],
)
def test_a_header_of_browsers_counts_once(header: str, own: str, other: str) -> None:
    """A client or proxy that sends two might mean the other one."""
    for values in ((own, other), (other, own), (own, own)):
        scope = request("GET")
        scope["headers"] += [(header.encode(), value.encode()) for value in values]
        assert refusal(scope) == "cross-site"


@pytest.fixture
def connected() -> Iterator[dict[str, Any]]:
    """Addresses of a connection that this process has opened to itself, as they stand in a scope."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        yield {"client": client.getsockname(), "server": server.getsockname()}


def test_a_program_of_another_user_is_refused(connected: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as nginx since 1.29.7: by default it adds no header and speaks HTTP/1.1, so its clients would pass."""
    scope = {**request(host="127.0.0.1:8000"), **connected}
    assert refusal(scope) is None
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert refusal(scope) == "other-user"
    keys = parse_keys([KEY], "")
    assert check_access(keys, {**scope, "headers": [(b"x-api-key", KEY.encode())]}) == keys.keys[0]


@pytest.mark.parametrize(
    "header",
    [
        *("x_forwarded_for", "x_forwarded_host", "forwarded", "via", "x_real_ip", "true_client_ip", "cf_connecting_ip"),
        *("x_original_forwarded_for", "x_envoy_external_address", "cdn_loop"),
    ],
)
def test_a_request_through_a_proxy_is_refused(header: str) -> None:
    assert refusal(request(**{header: "127.0.0.1"})) == "not-loopback"


def test_a_proxy_with_the_defaults_of_an_older_nginx_is_refused() -> None:
    """HTTP/1.0, the address of this server as the host, and none of the headers above: nginx before 1.29.7."""
    assert refusal(request(version="1.0", host="127.0.0.1:8000")) == "not-loopback"


@pytest.mark.parametrize("client", ["203.0.113.7", "10.0.0.1", "::ffff:192.0.2.7", "unix"])
def test_another_machine_is_refused(client: str) -> None:
    assert refusal(request(client=client)) == "not-loopback"
    assert refusal({**request(), "client": None}) == "not-loopback"


def test_with_keys_the_key_alone_counts() -> None:
    keys = parse_keys([KEY], "")
    remote = request("GET", client="203.0.113.7", host="xray.example", x_api_key=KEY, via="1.1 proxy")
    assert check_access(keys, remote) == keys.keys[0]
    for path in ("/", "/readyz"):
        assert check_access(keys, {**remote, "path": path, "headers": []}) is None
    for scope in (request("GET"), {**request(), "path": "/"}):
        with pytest.raises(Problem, match="API key"):
            check_access(keys, scope)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])
def test_without_keys_a_server_may_listen_on_loopback_only(host: str) -> None:
    with pytest.raises(ServingError, match="--keys"):
        check_exposure(host, None)
    check_exposure(host, parse_keys(["x" * 16], ""))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(host, None)
    assert is_loopback(host)


def test_an_unknown_client_is_not_on_loopback() -> None:
    assert not is_loopback(None)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"x-api-key": "abc"}, "abc"),
        ({"authorization": "Basic abc"}, ""),
        ({}, ""),
    ],
)
def test_a_key_is_read_from_either_header(headers: dict[str, str], key: str) -> None:
    assert key_from_headers(headers) == key
