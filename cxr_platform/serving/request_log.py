"""One JSON line for each request, for audits: who asked when, what was decided, by which version, and how long it took.

The proxies write the requests that they answer themselves, the replicas all others, each to the same file of their
node. Connections that are refused before their request is complete, and uploads that a client breaks off, have no line.
A line has constants and numbers of this program only: no file name, address, header, query or pixel.
"""

import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from typing import Any

from pydantic import Field

from cxr_platform.errors import ServingError
from cxr_platform.validation import Record, UtcTime

VARIABLE = "CXR_REQUEST_LOG"
DIGITS = 2


class RequestLine(Record):
    """The keys of a line. `null` stands for what a request does not have."""

    time: UtcTime = Field(description="When the answer was complete, in UTC.")
    key: str | None = Field(None, description="Name of the API key.")
    request_id: str = Field(description="The `X-Request-ID` of the answer.")
    route: str = Field(description='Label of the address, as in metrics; "other" for an unknown one.')
    status: int = Field(description="HTTP status.")
    reason: str | None = Field(None, description="Reason code of a problem.")
    decision: str | list[str] | None = Field(
        None, description="The decision; of a batch those of its images in their order, or the reason of a problem."
    )
    version: str | None = Field(None, description="Version of the model that decided.")
    milliseconds: dict[str, float] = Field(description="Duration of the stages, and in total.")


class _PrivateFile(WatchedFileHandler):
    """A file that other users cannot read, as it says who was asked about and found positive; new after logrotate."""

    def _open(self) -> TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o640)

        return open(self.baseFilename, "a", encoding="utf-8", opener=opener)


class RequestLog:
    """Appends lines to `path`, which logrotate may rename; without a path it does nothing."""

    def __init__(self, path: str | None = None) -> None:
        """Raise `ServingError` if the file cannot be opened."""
        self._handler: WatchedFileHandler | None = None
        if path:
            try:
                self._handler = _PrivateFile(path, encoding="utf-8")
            except OSError as error:
                raise ServingError(
                    f"Expected to be able to write the request log {path}.",
                    received=error.strerror,
                    advice=f"Name another file in {VARIABLE}.",
                ) from error

    @classmethod
    def from_environment(cls) -> "RequestLog":
        """Return the log of the file that CXR_REQUEST_LOG names, if any."""
        return cls(os.environ.get(VARIABLE))

    def write(self, request_id: str, route: str, status: int, seconds: float, fields: Mapping[str, Any]) -> None:
        """Append a line; `fields` are the optional ones of `RequestLine`, with further stages in `milliseconds`."""
        if self._handler is None:
            return
        stages = {**fields.get("milliseconds", {}), "total": round(1000 * seconds, DIGITS)}
        line = RequestLine(
            time=datetime.now(timezone.utc),
            request_id=request_id,
            route=route,
            status=status,
            **{**fields, "milliseconds": stages},
        )
        text = json.dumps(line.model_dump(mode="json"), separators=(",", ":"))
        self._handler.handle(logging.makeLogRecord({"msg": "%s", "args": (text,)}))

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._handler.close()
