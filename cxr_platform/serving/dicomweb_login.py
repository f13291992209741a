"""The login for a DICOMweb server, and the URLs that it may go to.

It comes from the environment or from a file that it names. No message repeats it, nor a URL that may hold one.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cxr_platform.errors import ServingError
from cxr_platform.serving.access import is_loopback

if TYPE_CHECKING:
    import requests

LOGIN, TOKEN = "CXR_DICOMWEB_LOGIN", "CXR_DICOMWEB_TOKEN"
"""Variables with USER:PASSWORD or a bearer token; with _FILE appended they name a file that holds it."""

DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Login:
    """User and password (basic authentication), or a bearer token."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def authorize(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        """Add the Authorization header; the signature is that of `requests.Session.auth`."""
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request.headers["Authorization"] = f"Bearer {self.token}" if self.token else f"Basic {pair}"
        return request


def load_login(environment: Mapping[str, str]) -> Login | None:
    """Return the login that `LOGIN` or `TOKEN` holds, or the file that they name with _FILE; `None` without one.

    Raises `ServingError` if the file is unreadable, if there is more than one, or if it is not USER:PASSWORD.
    """
    given = [name for name in (LOGIN, f"{LOGIN}_FILE", TOKEN, f"{TOKEN}_FILE") if environment.get(name)]
    if not given:
        return None
    if len(given) > 1:
        raise ServingError(f"Expected one of {LOGIN} and {TOKEN}.", received=" and ".join(given))
    (name,) = given
    value = environment[name]
    if name.endswith("_FILE"):
        try:
            value = Path(value).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            received = error.strerror if isinstance(error, OSError) else "another encoding"
            raise ServingError(f"Expected a readable file of {name}.", received=received) from error
    if name.startswith(TOKEN):
        return Login(token=value)
    user, colon, password = value.partition(":")
    if not user or not colon:
        raise ServingError(f"Expected USER:PASSWORD in {name}.", received="a value without user or colon")
    return Login(user, password)


def check_url(url: str) -> None:
    """Raise `ServingError` unless `url` is the base of a DICOMweb service, without a login."""
    expected = "Expected a DICOMweb server like https://HOST/dicom-web."
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:  # the URL is not repeated: it may hold a login
        raise ServingError(expected, received="a URL with an invalid host or port") from error
    if parts.username or parts.password:
        raise ServingError(
            "Expected the URL of a DICOMweb server without user and password, which other users of this machine see.",
            advice=f"Set {LOGIN}=USER:PASSWORD, or {LOGIN}_FILE to a file with it.",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ServingError(expected, received=repr(url))


def check_one_server(first: str, second: str) -> None:
    """Raise `ServingError` if a login would go to two servers, of valid URLs: another scheme, host or port."""

    def place(url: str) -> tuple[str, str | None, int | None]:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)

    if place(first) != place(second):
        raise ServingError(
            "Expected --wado and --stow of one server, with the same scheme, host and port, as there is one login.",
            received=f"{first} and {second}",
            advice="Write the answers with --sr, and store them with: dicomweb_client --url URL store instances FILES",
        )


def check_encrypted(url: str) -> None:
    """Raise `ServingError` if anybody on the way to the server could read a login."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname):
        raise ServingError(
            "Expected https for a DICOMweb server with a login, which http sends unencrypted.",
            received=url,
            advice="Name its https address, or the end of a tunnel to it on this machine, like http://localhost:PORT.",
        )
