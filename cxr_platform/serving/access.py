"""Which requests are answered: with API keys those that carry a valid one, without keys those of this machine.

Without keys the address of the client alone does not suffice. A browser on this machine sends requests for any website
that is open in it, so the request must name this machine as its host (a website can give its own name the address
127.0.0.1: DNS rebinding) and must not come from a page of another origin. The clients of a proxy can be anywhere, so
the program that opened the connection must run as the user of the server (`client_user`), which most proxies do not,
and the request must not have a header of proxies. A proxy of the same user that adds none is not recognised: use keys
behind any proxy.

Sources: Fetch Metadata Request Headers (W3C) for Sec-Fetch-Site; RFC 6454 for Origin; RFC 7239 and 9110 for the headers
of proxies.
"""

import ipaddress
import os
import re
from collections.abc import Mapping

from starlette.types import Scope

from cxr_platform.errors import ServingError
from cxr_platform.serving.api_keys import KEY_ADVICE, KEYS_VARIABLE, ApiKey, KeyCheck
from cxr_platform.serving.client_user import client_user
from cxr_platform.serving.problems import Problem

API = "/v1/"
"""Beginning of the paths that need a key, if there are any."""

PROXY_HEADERS = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip"}
    | {b"true-client-ip", b"fastly-client-ip", b"cdn-loop"}
)
PROXY_PREFIXES = (b"x-forwarded-", b"x-original-", b"x-envoy-", b"cf-")
OWN_SITES = (b"same-origin", b"none")
"""Values of Sec-Fetch-Site for requests of our own page, and of the user (address line, bookmark)."""

SITE_HEADERS = (b"origin", b"sec-fetch-site", b"sec-fetch-mode")
"""Headers with which a browser says where a request comes from, each at most once."""

HOST = re.compile(rb"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]+)?")
"""The value of Host, in lower case, that can name this machine: host and port, and nothing else."""


def check_exposure(host: str, keys: KeyCheck | None) -> None:
    """Raise `ServingError` if a server without keys would be reachable from other machines."""
    if keys is None and not is_loopback(host):
        raise ServingError(
            f"Expected API keys for a server on {host}; without keys it may listen on 127.0.0.1 only.",
            received="none",
            advice=f"Name a file with --keys, or set {KEYS_VARIABLE}. {KEY_ADVICE}",
        )


def check_access(keys: KeyCheck | None, scope: Scope) -> ApiKey | None:
    """Return the key that an ASGI request was sent with; raise `Problem` if its client may not send it.

    Without `keys` only clients on loopback may. With them every client may read the page and the state of the server;
    for `API`, and for whatever has a body, it must send a valid key.
    """
    if keys is None:
        _check_local(scope)
    elif scope["path"].startswith(API) or has_body(scope):
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        key = keys.find(key_from_headers(headers))
        if key is None:
            raise Problem("no-key")
        return key
    return None


def has_body(scope: Scope) -> bool:
    """Return True unless the method of a request says that it has no body."""
    return scope["method"] not in ("GET", "HEAD")


def is_loopback(host: str | None) -> bool:
    """Return True if an address or host name is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_from_headers(headers: Mapping[str, str]) -> str:
    """Return the key in `Authorization: Bearer KEY` or `X-API-Key: KEY`; empty if there is none."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _check_local(scope: Scope) -> None:
    """Raise `Problem` unless a request comes from this machine and user, and from no page but our own."""
    client, headers = scope.get("client"), dict(scope["headers"])
    # HTTP/1.0 is what nginx spoke by default until 1.29.7, and hardly any client still does.
    through_proxy = scope.get("http_version") == "1.0" or any(
        name in PROXY_HEADERS or name.startswith(PROXY_PREFIXES) for name in headers
    )
    if through_proxy or not is_loopback(client[0] if client else None):
        raise Problem("not-loopback")
    if client_user(scope) not in (None, os.geteuid()):
        raise Problem("other-user")
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 or not is_loopback(_host_name(hosts[0])):
        raise Problem("wrong-host")
    if any(sum(name == given for given, _ in scope["headers"]) > 1 for name in SITE_HEADERS):
        raise Problem("cross-site")
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
    hidden = origin == b"null" and site == b"same-origin"  # of our own page, whose policy is to send no referrer
    if origin is not None and origin not in (b"http://" + hosts[0], b"https://" + hosts[0]) and not hidden:
        raise Problem("cross-site")
    follows_link = scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"
    if site not in OWN_SITES and not follows_link:
        raise Problem("cross-site")


def _host_name(host: bytes) -> str | None:
    match = HOST.fullmatch(host.lower())
    return None if match is None else match[1].strip(b"[]").decode()
