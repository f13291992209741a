"""In the proxy: requests that wait at the same time are asked together, as a pack (`pack.py`).

Like a group commit. A request that finds nobody waiting and fewer than two calls a replica under way goes at once,
alone, and as if there were no packs; the others wait here until a call comes back, and then go together. So nothing
waits for a pack to fill, and the more is asked at a time, the less of Serve's own work is in an answer.

Two calls a replica: one that it works on, and one that is there when it has done that. How many replicas there are is
known from their answers.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cxr_platform.serving import batch_protocol
from cxr_platform.serving.batch_protocol import Answer
from cxr_platform.serving.envelope import App, Message, Receive, Scope
from cxr_platform.serving.problems import Problem, log_defect, problem_of_status
from cxr_platform.serving.upload import Disconnected

PACKED_PATH = "/v1/screen"
ITEM_BYTES = 2**20
"""Larger bodies are asked alone: of their cost a call is a small part."""

PACK_ITEMS, PACK_BYTES = 16, 4 * 2**20 - 2**18
"""Limits of a pack; above 4 MB Ray would take a detour over its object store."""

CALLS, WAITING = 2, 128
"""For each replica: calls under way, and requests that may wait here for one; more get 429."""

CALL_SECONDS = 1.0
"""A call that takes longer counts no more as under way: what is slow in it must not hold up the others."""

PATIENCE_SECONDS = 60.0
SEEN_SECONDS = 30.0
"""How long a replica counts after its last answer to a pack."""

DICOM, HEAD_BYTES = b"DICM", 1024


def may_be_packed(scope: Scope, body: bytes) -> bool:
    """Whether a request is one of many alike. Heatmaps, batches, large images and DICOM take long, and go alone."""
    alike = scope["method"] == "POST" and scope["path"] == PACKED_PATH and not scope.get("query_string")
    return alike and len(body) <= ITEM_BYTES and DICOM not in body[:HEAD_BYTES]


class Call:
    """One of the calls that may be under way; it may be closed twice."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back
        self._timer = asyncio.get_running_loop().call_later(CALL_SECONDS, self.close)

    def close(self) -> None:
        """Let others go."""
        self._timer.cancel()
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


@dataclass(eq=False)
class _Request:
    scope: Scope
    body: bytes
    outcome: "asyncio.Future[Answer | Call | None]"

    def tell(self, outcome: Answer | Call | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, problem: Problem) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(problem)


class Gatherer:
    """Asks `app`, which is Serve's proxy, in packs."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._waiting: deque[_Request] = deque()
        self._under_way = 0
        self._seen: dict[bytes, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, scope: Scope, body: bytes, receive: Receive) -> Answer | Call | None:
        """The answer; or a call, as which it is to be asked alone and which is closed then; or `None`, where a replica
        died over it. Raises `Problem` (busy, unavailable, what Serve says) and `Disconnected`.
        """
        if len(self._waiting) >= WAITING * self._replicas():
            raise Problem("busy")
        request = _Request(scope, body, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._go_on()
        if not request.outcome.done():
            await self._told_or_gone(request, receive)
        return request.outcome.result()

    async def _told_or_gone(self, request: _Request, receive: Receive) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        try:
            either: set[asyncio.Future[Any]] = {request.outcome, gone}
            await asyncio.wait(either, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not request.outcome.done():
                raise Disconnected if gone.done() else Problem("unavailable")
        finally:
            gone.cancel()
            if request.outcome.cancel() and request in self._waiting:
                self._waiting.remove(request)

    def _replicas(self) -> int:
        return max(1, len(self._seen))

    def _go_on(self) -> None:
        while self._waiting and (free := CALLS * self._replicas() - self._under_way) > 0:
            requests = self._next(math.ceil(len(self._waiting) / free))
            self._under_way += 1
            call = Call(self._come_back)
            if len(requests) == 1:
                requests[0].tell(call)
            else:
                task = asyncio.ensure_future(self._ask_together(requests, call))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _next(self, share: int) -> Sequence[_Request]:
        """The longest waiting, `share` of them if the limits of a pack allow that, at least one."""
        taken, room = [self._waiting.popleft()], PACK_BYTES
        while self._waiting and len(taken) < min(share, PACK_ITEMS):
            room -= len(taken[-1].body)
            if len(self._waiting[0].body) > room:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _come_back(self) -> None:
        self._under_way -= 1
        self._go_on()

    async def _ask_together(self, requests: Sequence[_Request], call: Call) -> None:
        answers = _Answers(requests)
        try:
            await self._app(
                batch_protocol.packed([(r.scope, r.body) for r in requests]), _while_wanted(requests), answers
            )
        except Exception as error:
            log_defect("pack", error)
        finally:
            self._saw(answers.replica)
            for request in requests:
                request.tell(None) if answers.problem is None else request.fail(answers.problem)
            call.close()

    def _saw(self, replica: bytes | None) -> None:
        now = time.monotonic()
        if replica is not None:
            self._seen[replica] = now
        self._seen = {name: when for name, when in self._seen.items() if now - when < SEEN_SECONDS}


class _Answers:
    """An ASGI `send` that hands each request of a pack its answer; `problem` is what Serve itself said to it."""

    def __init__(self, requests: Sequence[_Request]) -> None:
        self._requests, self._frames = requests, batch_protocol.Frames()
        self.replica: bytes | None = None
        self.problem: Problem | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.replica = next((value for name, value in message["headers"] if name == batch_protocol.REPLICA), None)
            if self.replica is None:
                self.problem = problem_of_status(message["status"])
        elif self.replica is not None:
            for place, answer in self._frames.feed(message.get("body", b"")):
                self._requests[place].tell(answer)


def _while_wanted(requests: Sequence[_Request]) -> Receive:
    """An ASGI `receive` of a pack: no body, and it is left once none of its clients waits any more."""
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.wait([request.outcome for request in requests])
        return {"type": "http.disconnect"}

    return receive


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
