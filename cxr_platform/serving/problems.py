"""What can go wrong with a request, as RFC 9457 problem details: one reason code, one status, one fixed text.

The texts are fixed so that nothing of a file, a header or a DICOM attribute can come back in an answer or a log.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from cxr_platform.errors import ImageRefused, ServingError

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1
CONTAINERS = "PNG, JPEG or DICOM"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A sort of problem: HTTP status, what is wrong, what to do."""

    status: HTTPStatus
    title: str
    advice: str


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # the request
        "no-key": Kind(
            HTTPStatus.UNAUTHORIZED, "The API key is missing or unknown.", "Send it as Authorization: Bearer KEY."
        ),
        "not-loopback": Kind(
            HTTPStatus.FORBIDDEN,
            "This server has no API keys and answers its own machine only.",
            "Whoever runs it can start it with --keys FILE.",
        ),
        "no-such-page": Kind(HTTPStatus.NOT_FOUND, "There is nothing at this address.", "The addresses are at /docs."),
        "wrong-method": Kind(
            HTTPStatus.METHOD_NOT_ALLOWED, "This address has no such method.", "The methods are at /docs."
        ),
        "bad-parameter": Kind(
            HTTPStatus.UNPROCESSABLE_ENTITY, "A parameter has a wrong value.", "The parameters are at /docs."
        ),
        "bad-request": Kind(HTTPStatus.BAD_REQUEST, "The request is no valid HTTP.", "Correct the client."),
        # the upload
        "not-multipart": Kind(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "The body is no multipart/form-data.",
            "Send the file as the part `file`: curl -F file=@image.png",
        ),
        "broken-multipart": Kind(
            HTTPStatus.BAD_REQUEST, "The multipart body is cut off or malformed.", "Send it again, whole."
        ),
        "no-file": Kind(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The body has no part named `file`, or parts of other names.",
            "Send nothing but the part `file`: curl -F file=@image.png",
        ),
        "too-many-files": Kind(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The body has more files than this address takes.",
            "One file for /v1/screen, up to 32 for /v1/screen/batch.",
        ),
        "empty-file": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The file is empty.", "Send the image itself."),
        "too-large": Kind(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "The body has more than 20 MB, or the image more than 50 million pixels.",
            "Send a smaller file, or fewer at once.",
        ),
        "slow-upload": Kind(
            HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time.", "Send it again over a faster line."
        ),
        # the image (the codes are those of `intake.candidate`)
        "not-an-image": Kind(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The content of the file is no {CONTAINERS} image, whatever its name says.",
            f"Send the image as {CONTAINERS}.",
        ),
        "undecodable": Kind(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The file begins like an image and cannot be decoded.",
            "Export the image again.",
        ),
        "no-pixel-data": Kind(
            HTTPStatus.UNPROCESSABLE_ENTITY, "The DICOM object holds no image.", "Send the image of the series."
        ),
        "modality": Kind(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The DICOM object is no projection radiograph.",
            "Send a chest image, no CT or other images.",
        ),
        "multi-frame": Kind(
            HTTPStatus.UNPROCESSABLE_ENTITY, "The DICOM object has several frames.", "Send one image at a time."
        ),
        # the server
        "busy": Kind(
            HTTPStatus.TOO_MANY_REQUESTS, "As many requests are waiting as may.", "Send it again after Retry-After."
        ),
        "unavailable": Kind(
            HTTPStatus.SERVICE_UNAVAILABLE, "No model can answer at the moment.", "Send it again after Retry-After."
        ),
        "no-champion": Kind(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The registry has no champion yet.",
            "Send it again once one is promoted: cxr registry promote VERSION.",
        ),
        "no-registry": Kind(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The registry is not there yet, or cannot be read.",
            "Send it again after Retry-After, or tell whoever runs the server.",
        ),
        "broken-champion": Kind(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Neither the champion nor one before it can be loaded: broken, changed or unreadable.",
            "Whoever runs the server finds what is wrong with: cxr registry verify.",
        ),
        "defect": Kind(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "The server has a defect; nothing is wrong with the request.",
            "Tell whoever runs it the request_id.",
        ),
    }
)
NOTHING_ANSWERS = frozenset({"no-champion", "no-registry", "broken-champion"})
"""Why a replica has no model yet."""

RETRIABLE = NOTHING_ANSWERS | {"busy", "unavailable", "slow-upload"}
UNREAD = frozenset({"too-large", "slow-upload"})
"""Of the body the rest is not wanted: the connection is closed, or the client would go on sending."""


class Problem(ServingError):
    """A request that cannot be served; `reason` is a key of `KINDS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(KINDS[reason].title, advice=KINDS[reason].advice)
        self.reason = reason

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(KINDS[self.reason].status)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the answer: when to come back, how to say who one is, the end of the connection."""
        headers = {"Retry-After": str(RETRY_SECONDS)} if self.reason in RETRIABLE else {}
        if self.reason in UNREAD:
            headers["Connection"] = "close"
        return {**headers, "WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else headers

    def details(self, request_id: str) -> dict[str, Any]:
        """The members of RFC 9457, section 3.1, and two of ours: `reason` and `request_id`."""
        kind = KINDS[self.reason]
        return {
            "type": f"/problems/{self.reason}",
            "title": kind.title,
            "status": int(kind.status),
            "detail": kind.advice,
            "reason": self.reason,
            "request_id": request_id,
        }

    def body(self, request_id: str) -> bytes:
        """`details` as JSON."""
        return json.dumps(self.details(request_id)).encode()


def problem_of_image(refused: ImageRefused) -> Problem:
    """The problem for an image that intake refuses. Its detail, which may quote the file, is dropped."""
    return Problem(refused.reason if refused.reason in KINDS else "undecodable")


def problem_of_status(status: int) -> Problem:
    """The problem for an answer of a library that gave no more than a status."""
    by_status = {
        HTTPStatus.NOT_FOUND: "no-such-page",
        HTTPStatus.METHOD_NOT_ALLOWED: "wrong-method",
        HTTPStatus.REQUEST_TIMEOUT: "unavailable",
        HTTPStatus.TOO_MANY_REQUESTS: "busy",
        HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    }
    fallback = "bad-request" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "defect"
    return Problem(by_status.get(HTTPStatus(status), fallback) if status in set(HTTPStatus) else fallback)


def log_defect(request_id: str, error: Exception) -> None:
    """Where in the code a request met which kind of exception. Its text is left out: it can quote what was read."""
    log.error("Request %s met a defect: %s %s", request_id, type(error).__name__, _place(error))


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
