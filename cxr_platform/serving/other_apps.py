"""Other applications behind the same proxies, whose requests are none of our business.

A middleware of Serve's proxies sees the requests of every application of the cluster. What limits and keys are ours is
not theirs, and their answers must reach their clients as they are. Which addresses are theirs is in Serve's own route
table, `/-/routes`: every route prefix but "/", which is ours (infra/serve/config.yaml).
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from cxr_platform.serving.envelope import App, Message, Scope

ROUTE_TABLE = "/-/routes"
FRESH_SECONDS = 1.0
"""Between two looks at the route table: so long an application that was just deployed may be taken for none."""


class Neighbours:
    """Knows from `app`, which is Serve's proxy, what other applications there are."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._prefixes: tuple[str, ...] = ()
        self._asked = -FRESH_SECONDS

    async def own(self, scope: Scope) -> bool:
        """Whether a request is another application's. As Serve decides: a prefix is the whole path or ends at a slash.

        Where the table is not to be had (a proxy that starts or ends), what was last known holds.
        """
        if time.monotonic() - self._asked >= FRESH_SECONDS:
            self._asked = time.monotonic()
            table = await self._table(scope)
            if table is not None:
                self._prefixes = tuple(prefix.rstrip("/") for prefix in table if prefix != "/")
        path = scope["path"]
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self._prefixes)

    async def _table(self, scope: Scope) -> Mapping[str, Any] | None:
        asked = {**scope, "method": "GET", "path": ROUTE_TABLE, "raw_path": ROUTE_TABLE.encode(), "query_string": b""}
        body: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            body.append(message.get("body", b""))

        await self._app({**asked, "headers": []}, receive, send)
        try:
            table = json.loads(b"".join(body))
        except ValueError:  # in place of the table, a sentence
            return None
        return table if isinstance(table, dict) else None
