"""Errors of a request as RFC 9457 problem details: a reason code, an HTTP status, and fixed texts.

The texts are fixed so that no content of a file, header or DICOM attribute can appear in an answer or a log; the name
of a known format, which is not read, is one of them.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from starlette.responses import Response

from cxr_platform.errors import ImageRefused, ServingError
from cxr_platform.intake.images import other_format

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1
"""Value of the Retry-After header."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProblemType:
    """`title` says what is wrong, `detail` what to do."""

    status: int
    title: str
    detail: str


PROBLEM_TYPES: Mapping[str, ProblemType] = MappingProxyType(
    {
        # request
        "no-key": ProblemType(
            401, "The API key is missing or invalid.", "Send a valid key in the header Authorization: Bearer KEY."
        ),
        "not-loopback": ProblemType(
            403,
            "This server has no API keys and answers clients on its own machine only, without a proxy between.",
            "Ask the operator to start the server with API keys: cxr serve --keys FILE.",
        ),
        "other-user": ProblemType(
            403,
            "This server has no API keys and answers programs of its own user only.",
            "Run the client as the user who started the server, or ask the operator for API keys.",
        ),
        "wrong-host": ProblemType(
            403,
            "This server has no API keys and answers only under the names of its own machine.",
            "Use http://localhost or http://127.0.0.1 with the port, or ask the operator for API keys.",
        ),
        "cross-site": ProblemType(
            403,
            "This server has no API keys and answers no requests of other websites.",
            "Use the page of the server itself, or ask the operator for API keys.",
        ),
        "not-found": ProblemType(404, "There is no page at this address.", "See /docs for the available addresses."),
        "wrong-method": ProblemType(
            405, "This address does not support the HTTP method.", "See /docs for the supported methods."
        ),
        "bad-parameter": ProblemType(
            422, "A query parameter has an invalid value.", "See /docs for the parameters and their values."
        ),
        "bad-request": ProblemType(400, "The request is not valid HTTP.", "Correct the request or its headers."),
        "large-headers": ProblemType(
            431, "The request has too many or too large headers.", "Send at most 100 headers of 32 KiB in total."
        ),
        "slow-headers": ProblemType(
            408,
            "The headers of the request did not arrive in time.",
            "Send the request again over a faster connection.",
        ),
        # upload
        "not-multipart": ProblemType(
            415,
            "The body is not multipart/form-data.",
            "Send the file as the form field `file`: curl -F file=@image.png",
        ),
        "encoded-body": ProblemType(
            415,
            "The body has a Content-Encoding, which the server does not decode.",
            "Send the body as it is, without Content-Encoding.",
        ),
        "broken-multipart": ProblemType(
            400, "The multipart body is incomplete or malformed.", "Send the complete body again."
        ),
        "no-file": ProblemType(
            422,
            "The form has no field named `file`, or has other fields.",
            "Send only the form field `file`: curl -F file=@image.png",
        ),
        "too-many-files": ProblemType(
            422,
            "The body has more files than this address accepts.",
            "Send one file to /v1/screen, or up to 32 files to /v1/screen/batch.",
        ),
        "empty-file": ProblemType(422, "The file is empty.", "Send an image file."),
        "too-large": ProblemType(
            413,
            "The body is larger than 20 MB, or the image has more than 50 million pixels.",
            "Send a smaller file, or fewer files per request.",
        ),
        "slow-upload": ProblemType(
            408, "The upload did not finish in time.", "Send the request again over a faster connection."
        ),
        # image: the codes of `intake.candidate`
        "not-an-image": ProblemType(
            415,
            "The file is not a PNG, JPEG or DICOM image. Its content counts, not its name.",
            "Send the image as PNG, JPEG or DICOM.",
        ),
        "undecodable": ProblemType(
            422, "The file starts like an image but cannot be decoded.", "Export the image again."
        ),
        "no-pixel-data": ProblemType(
            422, "The DICOM object contains no image.", "Send the object of the series that holds the image."
        ),
        "modality": ProblemType(
            422,
            "The DICOM object is not a projection radiograph.",
            "Send a chest radiograph; CT and other modalities are not supported.",
        ),
        "multi-frame": ProblemType(422, "The DICOM object has several frames.", "Send one image per file."),
        # answers as DICOM
        "not-dicom": ProblemType(
            415,
            "A structured report needs a DICOM image, from which it takes the patient and the study.",
            "Send the image as DICOM, or ask for the answer without format=sr or --sr.",
        ),
        "incomplete-dicom": ProblemType(
            422,
            "The DICOM object lacks what a structured report must state.",
            "Send a CR, DX or SC image with a valid SOP, Series and Study Instance UID; Patient ID, its issuer and "
            "Accession Number may be empty but not irregular.",
        ),
        # server
        "key-limit": ProblemType(
            429,
            "This API key has sent as many requests as it may.",
            "Retry after the time in Retry-After, or ask the operator for a higher limit.",
        ),
        "busy": ProblemType(429, "The queue of the server is full.", "Retry after the time in Retry-After."),
        "unavailable": ProblemType(503, "No replica can answer at the moment.", "Retry after the time in Retry-After."),
        "no-champion": ProblemType(
            503,
            "The registry has no champion yet.",
            "Retry after a version was promoted: cxr registry promote VERSION.",
        ),
        "no-registry": ProblemType(
            503,
            "The registry does not exist yet or cannot be read.",
            "Retry after the time in Retry-After, or contact the operator of the server.",
        ),
        "broken-champion": ProblemType(
            503,
            "No champion can be loaded, current or previous: files are damaged, changed or unreadable.",
            "Ask the operator to run: cxr registry verify.",
        ),
        "internal-error": ProblemType(
            500,
            "The server failed with an internal error. The request is valid.",
            "Report the request_id to the operator of the server.",
        ),
    }
)

CONTENT_CODINGS = frozenset({"br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})
"""Names that an answer repeats, of those that IANA registers for Content-Encoding."""

WITHOUT_MODEL = frozenset({"no-champion", "no-registry", "broken-champion"})
"""Reasons for which a replica has no model yet."""

RETRIABLE = WITHOUT_MODEL | {"busy", "unavailable", "slow-upload", "slow-headers", "key-limit"}
CLOSES_CONNECTION = frozenset({"too-large", "slow-upload", "large-headers", "slow-headers"})
"""The rest of the body is not read; the connection is closed so that the client stops sending."""


class Problem(ServingError):
    """A request that cannot be answered; `reason` is a key of `PROBLEM_TYPES`."""

    def __init__(self, reason: str, detail: str = "", retry_seconds: int = RETRY_SECONDS, allow: str = "") -> None:
        """`detail`, of constant texts only, takes the place of that of the type; `allow` names the methods of a 405."""
        super().__init__(PROBLEM_TYPES[reason].title, advice=detail or PROBLEM_TYPES[reason].detail)
        self.reason, self.retry_seconds, self.allow = reason, retry_seconds, allow

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEM_TYPES[self.reason].status

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer, besides Content-Type."""
        headers = {}
        if self.reason in RETRIABLE:
            headers["Retry-After"] = str(self.retry_seconds)
        if self.reason in CLOSES_CONNECTION:
            headers["Connection"] = "close"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.reason == "encoded-body":  # RFC 9110, section 12.5.3
            headers["Accept-Encoding"] = "identity"
        if self.allow:
            headers["Allow"] = self.allow
        return headers

    def details(self, request_id: str) -> dict[str, Any]:
        """Return the members of RFC 9457, section 3.1, and two extensions: `reason` and `request_id`."""
        kind = PROBLEM_TYPES[self.reason]
        return {
            "type": f"/problems/{self.reason}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.advice,
            "reason": self.reason,
            "request_id": request_id,
        }

    def body(self, request_id: str) -> bytes:
        """Return `details` as JSON."""
        return json.dumps(self.details(request_id)).encode()


def problem_response(problem: Problem, request_id: str) -> Response:
    """Return the answer to a request that leads to `problem`."""
    headers = {"X-Request-ID": request_id, "X-Content-Type-Options": "nosniff", **problem.headers}
    return Response(problem.body(request_id), problem.status, headers, MEDIA_TYPE)


def problem_for_content(data: bytes) -> Problem:
    """Return the problem for a file that is no PNG, JPEG or DICOM: it names the format if that is known."""
    known = other_format(data)
    if known is None:
        return Problem("not-an-image")
    name, advice = known
    return Problem("not-an-image", f"Received: {name}. {advice[0].upper()}{advice[1:]}.")


def problem_for_encodings(names: Sequence[str]) -> Problem:
    """Return the problem for a body with these content codings: it names them if all are known."""
    received = ", ".join(names) if CONTENT_CODINGS.issuperset(names) else "an unknown encoding"
    advice = PROBLEM_TYPES["encoded-body"].detail
    return Problem("encoded-body", f"Expected: no Content-Encoding. Received: {received}. {advice}")


def problem_for_image(refused: ImageRefused) -> Problem:
    """Return the problem for an image that intake refuses, without the detail, which may quote the file."""
    return Problem(refused.reason if refused.reason in PROBLEM_TYPES else "undecodable")


def problem_for_status(status: int, allow: str = "") -> Problem:
    """Return the problem for an HTTP status that a library or Serve answered; `allow` is the header of a 405."""
    reasons = {404: "not-found", 405: "wrong-method", 408: "unavailable", 429: "busy", 503: "unavailable"}
    return Problem(reasons.get(status, "bad-request" if status < 500 else "internal-error"), allow=allow)


def log_internal_error(request_id: str, error: Exception) -> None:
    """Log the type of an exception and the line that raised it. Its text is left out: it may quote the request."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    log.error("Request %s failed with an internal error: %s%s", request_id, type(error).__name__, place)
