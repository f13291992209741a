"""Which paths belong to this application, and which to other applications behind the same Serve proxies.

A middleware in Serve's proxy sees the requests of every application on the cluster. Requests of other applications
must pass unchanged: our limits and API keys are not theirs.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Scope

ROUTES = ("/v1/screen", "/v1/screen/batch", "/v1/model", "/healthz", "/readyz", "/docs", "/openapi.json", "/", "/page")
FOLDERS = ("/page/", "/samples/", "/problems/")
"""Prefixes below which this application has further paths."""

HEALTH_PATH, ROUTE_TABLE = "/-/healthz", "/-/routes"
"""Paths that Serve's proxy answers itself. KubeRay asks for the first one from another machine."""

REFRESH_SECONDS = 1.0
"""Age up to which the route table is reused: for so long a new application may be treated as unknown."""


def route_label(path: str) -> str:
    """Return the label under which a request is counted: one of `ROUTES` or "other", never the path of the client."""
    route = "/page" if path.startswith("/page/") else path
    return route if route in ROUTES else "other"


def is_own_path(path: str) -> bool:
    """Return True if this application answers at `path`, or below the folder it is in."""
    return path in ROUTES or path == "/samples" or path.startswith(FOLDERS)


class OtherApps:
    """Knows the route prefixes of other applications from Serve's route table.

    `app` is Serve's proxy. Every prefix but "/", which is ours (infra/serve/config.yaml), is another application's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._prefixes: tuple[str, ...] = ()
        self._refreshed_at = -REFRESH_SECONDS

    async def own(self, scope: Scope) -> bool:
        """Return True if the request is another application's: its path equals a prefix or continues it at a slash.

        If the route table cannot be read (a proxy that starts or stops), the last one is used.
        """
        if time.monotonic() - self._refreshed_at >= REFRESH_SECONDS:
            self._refreshed_at = time.monotonic()
            table = await self._route_table(scope)
            if table is not None:
                self._prefixes = tuple(prefix.rstrip("/") for prefix in table if prefix != "/")
        path = scope["path"]
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self._prefixes)

    async def _route_table(self, scope: Scope) -> Mapping[str, Any] | None:
        request = {**scope, "type": "http", "method": "GET", "path": ROUTE_TABLE, "raw_path": ROUTE_TABLE.encode()}
        body: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            body.append(message.get("body", b""))

        await self._app({**request, "query_string": b"", "headers": []}, receive, send)
        try:
            table = json.loads(b"".join(body))
        except ValueError:  # a proxy that is not ready answers with a sentence
            return None
        return table if isinstance(table, dict) else None
