"""Screen files with a server or with a bundle in this process: the same answer in the same form.

Sources: Retry-After, RFC 9110 section 10.2.3; problem details, RFC 9457.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from pydantic import ValidationError

from cxr_platform.errors import ImageRefused, ServingError, StorageError
from cxr_platform.serving.problems import Problem, problem_for_image
from cxr_platform.serving.schema import ProblemAnswer, ScreenAnswer
from cxr_platform.serving.upload import FIELD, Limits, check_content

if TYPE_CHECKING:
    from cxr_platform.serving.heatmap import HeatmapNetwork
    from cxr_platform.serving.screener import Screener

Reply = ScreenAnswer | ProblemAnswer
Screen = Callable[[bytes], Reply]
"""Returns the answer or the problem for the bytes of a file."""

ATTEMPTS = 10
MAX_PAUSE_SECONDS = 30.0
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""Longer than a server takes to give up (`pipelines.serve.REQUEST_SECONDS`, after an upload)."""

MAX_FILE_BYTES = Limits().body_bytes - 64 * 2**10
"""The limit of a request less the size of the form around the file; page/api.js has the same limit."""

RETRIED_STATUSES = (429, 503)
ACCESS_STATUSES = (401, 403, 404)
"""Statuses that concern the client or the address, not the image."""


def check_readable(path: Path) -> None:
    """Raise `StorageError` if a file does not exist or may not be read."""
    _read(path, 0)


def read_file(path: Path) -> bytes:
    """Return the bytes of a file, cut one byte above the largest size; raise `StorageError` if it is unreadable."""
    return _read(path, MAX_FILE_BYTES + 1)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(max_bytes)
    except OSError as error:
        raise StorageError(f"Expected a readable image at {path}.", received=error.strerror) from error


def local_screen(screener: "Screener", network: "HeatmapNetwork | None" = None) -> Screen:
    """Return a function that screens with `screener`, without a server; with `network` it adds a heatmap."""
    from cxr_platform.serving.answers import explanation, screen_answer
    from cxr_platform.serving.heatmap import grey_png, overlay_png

    def screen(data: bytes) -> Reply:
        began, request_id = time.perf_counter(), uuid.uuid4().hex
        try:
            _check_size(data)
            check_content(data)
            (screening,) = screener.screen([screener.prepare(data)])
        except ImageRefused as refused:
            return ProblemAnswer(**problem_for_image(refused).details(request_id))
        except Problem as problem:
            return ProblemAnswer(**problem.details(request_id))
        explained = None
        if network is not None and not screening.findings:
            heatmap = network.heatmap(screening.prepared.image, screener.bundle.labels.index(screening.label))
            explained = explanation(
                screening.label, grey_png(screening.prepared.letterboxed), overlay_png(heatmap), None
            )
        seconds = {"upload": 0.0, "waiting": 0.0, "total": time.perf_counter() - began}
        return screen_answer(screening, screener.bundle, request_id, seconds, explained)

    return screen


@contextmanager
def remote_screen(url: str, key: str = "", explain: bool = False) -> Iterator[Screen]:
    """Yield a function that screens with the server at `url`, and retries when the server asks for it.

    With `explain` the server adds a heatmap.

    The function raises `ServingError` if no screening server answers in time, or if it refuses the client.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    with httpx.Client(base_url=url, headers=headers, timeout=timeout) as client:
        yield lambda data: _screen_remotely(client, data, explain)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_FILE_BYTES:
        raise Problem("too-large")


def _screen_remotely(client: httpx.Client, data: bytes, explain: bool) -> Reply:
    try:
        _check_size(data)
    except Problem as problem:
        return ProblemAnswer(**problem.details(uuid.uuid4().hex))
    for attempt in range(ATTEMPTS):
        response = _post(client, data, explain)
        if response.status_code not in RETRIED_STATUSES or attempt == ATTEMPTS - 1:
            break
        retry_after = response.headers.get("retry-after", "")  # seconds, or a date, which is taken as one second
        time.sleep(min(float(retry_after) if retry_after.isdecimal() else 1.0, MAX_PAUSE_SECONDS))
    return _parse(response)


def _post(client: httpx.Client, data: bytes, explain: bool) -> httpx.Response:
    try:
        return client.post("/v1/screen", files={FIELD: ("image", data)}, params={"explain": "true"} if explain else {})
    except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
        raise ServingError(
            f"Expected an answer from {client.base_url} within {ANSWER_SECONDS:g} s.",
            received="none, but the server accepts connections",
            advice="The server is slow or overloaded: try again later, or contact its operator.",
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServingError(
            f"Expected a screening server at {client.base_url}.",
            received=str(error) or type(error).__name__,
            advice="Start one with `make serve`, or screen without --url.",
        ) from error


def _parse(response: httpx.Response) -> Reply:
    try:
        if response.status_code == 200:
            return ScreenAnswer.model_validate_json(response.content)
        problem = ProblemAnswer.model_validate_json(response.content)
    except ValidationError as error:
        raise ServingError(
            f"Expected an answer of a screening server from {response.url}.",
            received=f"status {response.status_code} with another content",
            advice="Check the address, and that server and client have the same version.",
        ) from error
    if problem.status in ACCESS_STATUSES:
        raise ServingError(problem.title, received=f"status {problem.status}", advice=problem.detail)
    return problem
