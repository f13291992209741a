"""In the proxy: send requests that wait at the same time to a replica as one call (`batch_protocol`).

This works like a group commit. While fewer than `CALLS_PER_REPLICA` calls per replica are running, a request is sent at
once. Further requests wait until a call returns, and then go together. So no request waits for a batch to fill, and the
more requests there are, the smaller is Serve's own share of the work per request.

A request that is sent at once is a batch of one: its body travels in the call itself, while Serve would have the
replica fetch it from the proxy by a second call.

One call per replica: a second one, there when the first is done, would save the replica a few milliseconds of waiting,
but batches would be half as large. The number of replicas is known from their answers.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope

from cxr_platform.serving.batch_protocol import REPLICA_HEADER, AnswerDecoder, HttpAnswer, batch_scope
from cxr_platform.serving.problems import Problem, log_internal_error, problem_for_status
from cxr_platform.serving.upload import Disconnected

BATCHED_PATH = "/v1/screen"
MAX_REQUEST_BYTES = 2**20
"""Larger bodies are sent alone: there Serve's own work matters little."""

MAX_BATCH_REQUESTS, MAX_BATCH_BYTES = 16, 4 * 2**20 - 2**18
"""Limits of a batch; above 4 MB Ray would take the detour through its object store."""

CALLS_PER_REPLICA, WAITING_PER_REPLICA = 1, 128
"""Running calls, and requests that may wait here for one; more get 429."""

SLOW_CALL_SECONDS = 1.0
"""A call that takes longer no longer counts as running, so that it delays no other request."""

TIMEOUT_SECONDS = 60.0
REPLICA_SECONDS = 30.0
"""How long a replica is counted after its last answer to a batch."""

DICOM, HEAD_BYTES = b"DICM", 1024


def is_batchable(scope: Scope, body: bytes) -> bool:
    """Return True for a small image to screen. Heatmaps, batches of images, large images and DICOM are sent alone."""
    is_plain = scope["method"] == "POST" and scope["path"] == BATCHED_PATH and not scope.get("query_string")
    return is_plain and len(body) <= MAX_REQUEST_BYTES and DICOM not in body[:HEAD_BYTES]


@dataclass(eq=False)
class _WaitingRequest:
    scope: Scope
    body: bytes
    outcome: asyncio.Future[HttpAnswer | None]

    def finish(self, outcome: HttpAnswer | Problem | None) -> None:
        if not self.outcome.done():
            if isinstance(outcome, Problem):
                self.outcome.set_exception(outcome)
            else:
                self.outcome.set_result(outcome)


class RequestBatcher:
    """Sends requests to `app`, which is Serve's proxy, in batches of one or more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._queue: deque[_WaitingRequest] = deque()
        self._running_calls: set[_BatchAnswers] = set()
        self._replica_seen: dict[bytes, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a call."""
        return len(self._queue)

    async def submit(self, scope: Scope, body: bytes, receive: Receive) -> HttpAnswer | None:
        """Return the answer to a request; `None` if a replica died while it had the batch.

        Raises `Problem` (busy, unavailable, what Serve answers) and `Disconnected`.
        """
        if len(self._queue) >= WAITING_PER_REPLICA * self._replicas():
            raise Problem("busy")
        request = _WaitingRequest(scope, body, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._start_calls()
        await self._wait(request, receive)
        return request.outcome.result()

    async def _wait(self, request: _WaitingRequest, receive: Receive) -> None:
        """Wait for the outcome; raise if it does not come in time or the client disconnects."""
        disconnect = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            either: set[asyncio.Future[Any]] = {request.outcome, disconnect}
            await asyncio.wait(either, timeout=TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not request.outcome.done():
                raise Disconnected if disconnect.done() else Problem("unavailable")
        finally:
            disconnect.cancel()
            if request.outcome.cancel() and request in self._queue:
                self._queue.remove(request)

    def _replicas(self) -> int:
        return max(1, len(self._replica_seen))

    def _start_calls(self) -> None:
        while self._queue and (free := CALLS_PER_REPLICA * self._replicas() - len(self._running_calls)) > 0:
            requests = self._next_batch(math.ceil(len(self._queue) / free))
            answers = _BatchAnswers(requests)
            self._running_calls.add(answers)
            task = asyncio.ensure_future(self._send_batch(requests, answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_batch(self, share: int) -> Sequence[_WaitingRequest]:
        """Take the requests that wait longest: `share` of them if the limits of a batch allow it, at least one."""
        batch, room = [self._queue.popleft()], MAX_BATCH_BYTES
        while self._queue and len(batch) < min(share, MAX_BATCH_REQUESTS):
            room -= len(batch[-1].body)
            if len(self._queue[0].body) > room:
                break
            batch.append(self._queue.popleft())
        return batch

    def _end_call(self, call: "_BatchAnswers") -> None:
        """Make room for another call, once for each."""
        if call in self._running_calls:
            self._running_calls.remove(call)
            self._start_calls()

    async def _send_batch(self, requests: Sequence[_WaitingRequest], answers: "_BatchAnswers") -> None:
        scope = batch_scope([(request.scope, request.body) for request in requests])
        slow = asyncio.get_running_loop().call_later(SLOW_CALL_SECONDS, self._end_call, answers)
        try:
            await self._app(scope, _receive_until_abandoned(requests), answers)
        except Exception as error:
            log_internal_error("batch", error)
        finally:
            self._note_replica(answers.replica)
            for request in requests:
                request.finish(answers.problem)
            slow.cancel()
            self._end_call(answers)

    def _note_replica(self, replica: bytes | None) -> None:
        now = time.monotonic()
        if replica is not None:
            self._replica_seen[replica] = now
        recent = {name: seen for name, seen in self._replica_seen.items() if now - seen < REPLICA_SECONDS}
        self._replica_seen = recent


class _BatchAnswers:
    """An ASGI `send` that gives each request of a batch its answer; `problem` is what Serve itself answered."""

    def __init__(self, requests: Sequence[_WaitingRequest]) -> None:
        self._requests, self._decoder = requests, AnswerDecoder()
        self.replica: bytes | None = None
        self.problem: Problem | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.replica = next((value for name, value in message["headers"] if name == REPLICA_HEADER), None)
            if self.replica is None:
                self.problem = problem_for_status(message["status"])
        elif self.replica is not None:
            for index, answer in self._decoder.feed(message.get("body", b"")):
                self._requests[index].finish(answer)


def _receive_until_abandoned(requests: Sequence[_WaitingRequest]) -> Receive:
    """Return an ASGI `receive` that disconnects once none of the clients waits any longer.

    It has no body, as the bodies are in the scope: Serve's replica would fetch even an empty one by a further call.
    """

    async def receive() -> Message:
        await asyncio.wait([request.outcome for request in requests])
        return {"type": "http.disconnect"}

    return receive


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
