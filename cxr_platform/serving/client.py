"""Answers for files, of a server or of a bundle in this process: the same answer in the same form.

Source of Retry-After and problem details: RFC 9110, section 10.2.3, and RFC 9457.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cxr_platform.errors import ImageRefused, ServingError, StorageError
from cxr_platform.serving.problems import Problem, problem_of_image
from cxr_platform.serving.schema import ProblemAnswer, ScreenAnswer
from cxr_platform.serving.upload import Limits, check_content

if TYPE_CHECKING:
    import httpx

    from cxr_platform.serving.screener import Screener

Reply = ScreenAnswer | ProblemAnswer
Ask = Callable[[bytes], Reply]

ATTEMPTS = 10
MOST_WAIT_SECONDS = 30.0
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""Longer than a server takes to give up and say so (`pipelines.serve.REQUEST_SECONDS`, after an upload)."""

MOST_BYTES = Limits().body_bytes - 64 * 2**10
"""Of a file: what a server takes in one request, less what the form around it takes (as the page has it)."""

COME_BACK = (429, 503)
NOT_OURS = (401, 403, 404)
"""Statuses by which the server refuses whoever asks, whatever the image."""


def read(path: Path) -> bytes:
    """The bytes of a file, one more than any image may have at the most; `StorageError` where it cannot be read."""
    with _readable(path) as file:
        return file.read(MOST_BYTES + 1)


def check_readable(path: Path) -> None:
    """`StorageError` where the file is not there or may not be read, without reading it."""
    with _readable(path):
        pass


@contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise StorageError(f"Expected a readable image at {path}.", received=error.strerror) from error


def local(screener: "Screener") -> Ask:
    """Answers of the bundle of `screener`, without a server."""
    from cxr_platform.serving.answers import screen_answer

    def ask(data: bytes) -> Reply:
        began, request_id = time.perf_counter(), uuid.uuid4().hex
        try:
            _check_size(data)
            check_content(data)
            (screening,) = screener.screen([screener.prepare(data)])
        except ImageRefused as refused:
            return ProblemAnswer(**problem_of_image(refused).details(request_id))
        except Problem as problem:
            return ProblemAnswer(**problem.details(request_id))
        seconds = {"upload": 0.0, "waiting": 0.0, "total": time.perf_counter() - began}
        return screen_answer(screening, screener.bundle, request_id, seconds, None)

    return ask


@contextmanager
def remote(url: str, key: str = "") -> Iterator[Ask]:
    """Answers of the server at `url`, asked again as often as it says come back. `ServingError` where there is none."""
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(
        base_url=url, headers=headers, timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    ) as client:
        yield lambda data: _asked(client, data)


def _check_size(data: bytes) -> None:
    if len(data) > MOST_BYTES:
        raise Problem("too-large")


def _asked(client: "httpx.Client", data: bytes) -> Reply:
    try:
        _check_size(data)
    except Problem as problem:
        return ProblemAnswer(**problem.details(uuid.uuid4().hex))
    for attempt in range(ATTEMPTS):
        response = _posted(client, data)
        if response.status_code not in COME_BACK or attempt == ATTEMPTS - 1:
            break
        time.sleep(_wait(response))
    return _reply(response)


def _posted(client: "httpx.Client", data: bytes) -> "httpx.Response":
    import httpx

    try:
        return client.post("/v1/screen", files={"file": ("image", data)})
    except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
        raise ServingError(
            f"Expected an answer from {client.base_url} within {ANSWER_SECONDS:g} s.",
            received="none, though a server is there",
            advice="It is slow or overloaded: try again later, or ask whoever runs it.",
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServingError(
            f"Expected a screening server at {client.base_url}.",
            received=str(error) or type(error).__name__,
            advice="Start one with `make serve`, or screen without --url.",
        ) from error


def _wait(response: "httpx.Response") -> float:
    """Seconds that the server asks for; its other form, a date, is taken as one second."""
    asked = response.headers.get("retry-after", "")
    return min(float(asked) if asked.isdecimal() else 1.0, MOST_WAIT_SECONDS)


def _reply(response: "httpx.Response") -> Reply:
    from pydantic import ValidationError

    try:
        if response.status_code == 200:
            return ScreenAnswer.model_validate_json(response.content)
        problem = ProblemAnswer.model_validate_json(response.content)
    except ValidationError as error:
        raise ServingError(
            f"Expected an answer of a screening server from {response.url}.",
            received=f"status {response.status_code} in another form",
            advice="Look whether --url is its address, and of the same version.",
        ) from error
    if problem.status in NOT_OURS:
        raise ServingError(problem.title, received=f"status {problem.status}", advice=problem.detail)
    return problem
