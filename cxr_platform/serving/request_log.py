"""One JSON line for each request, for audits: who asked when, what was decided, by which version, and how long it took.

The proxies write the lines, each to the file of its node. What only a replica knows comes with its answer, in a header
that the proxy takes out. A request whose client leaves before the answer, as in the middle of an upload, has the status
499; a replica may have decided nevertheless. Connections that are refused before the head of a request is complete have
no line. A line has constants and numbers of this program only: no file name, address, header, query or pixel.
"""

import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from typing import Any

from pydantic import Field, ValidationError

from cxr_platform.errors import ServingError
from cxr_platform.validation import Record, UtcTime

VARIABLE = "CXR_REQUEST_LOG"
OUTCOME_HEADER = b"x-cxr-outcome"
DIGITS = 2


class _Request(Record):
    """What the proxy knows of a request."""

    time: UtcTime = Field(description="When the answer was complete, in UTC.")
    key: str | None = Field(default=None, description="Name of the API key.")
    request_id: str = Field(description="The `X-Request-ID` of the answer.")
    route: str = Field(description='Label of the address, as in metrics; "other" for an unknown one.')
    status: int = Field(description="HTTP status; 499 if the client left before the answer.")


class Outcome(Record):
    """What became of a request: stated by a replica in `OUTCOME_HEADER`, or by the proxy of its own answers."""

    reason: str | None = Field(default=None, description="Reason code of a problem.")
    decision: str | list[str] | None = Field(
        default=None,
        description="The decision; of a batch those of its images in their order, or the reason of a problem.",
    )
    version: str | None = Field(default=None, description="Version of the model that decided.")
    milliseconds: dict[str, float] = Field(
        default_factory=dict,
        description="Duration of the stages. In the proxy: `body`, until the body of the request was complete, and "
        "`total`, from the headers of the request to the end of the answer. In the replica: `upload`, `waiting`, "
        "`decode`, `inference`, `explanation` as in the answer, and `replica`, all of its time.",
    )


class RequestLine(Outcome, _Request):
    """The keys of a line. `null` stands for what a request does not have."""


def outcome_header(**fields: Any) -> tuple[bytes, bytes]:
    """Return the header with an `Outcome`."""
    return OUTCOME_HEADER, Outcome(**fields).model_dump_json(exclude_none=True).encode()


def read_outcome(header: bytes) -> Outcome:
    """Return the `Outcome` in the value of a header, an empty one if it has another content."""
    try:
        return Outcome.model_validate_json(header)
    except ValidationError:  # another application has the same header
        return Outcome()


def request_line(
    request_id: str, route: str, status: int, key: str | None, outcome: Outcome, seconds: Mapping[str, float]
) -> RequestLine:
    """Return the line of a request that is answered now; `seconds` are the durations in the proxy."""
    stages = {name: milliseconds(duration) for name, duration in seconds.items()}
    return RequestLine(
        time=datetime.now(timezone.utc),
        key=key,
        request_id=request_id,
        route=route,
        status=status,
        **{**outcome.model_dump(), "milliseconds": {**outcome.milliseconds, **stages}},
    )


def milliseconds(seconds: float) -> float:
    """Return a duration as lines state it."""
    return round(1000 * seconds, DIGITS)


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

    @property
    def is_open(self) -> bool:
        """True if there is a file for lines."""
        return self._handler is not None

    def write(self, line: RequestLine) -> None:
        """Append a line."""
        if self._handler is None:
            return
        text = json.dumps(line.model_dump(mode="json"), separators=(",", ":"))
        self._handler.handle(logging.makeLogRecord({"msg": "%s", "args": (text,)}))

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._handler.close()
