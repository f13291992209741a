"""A real server on loopback for the page: the application, real decoding, answers that a test lays down."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray

from cxr_platform.labels import CLASSES
from cxr_platform.registry.bundle import Bundle, Preprocessing
from cxr_platform.registry.store import Registry
from cxr_platform.serving.app import build_app
from cxr_platform.serving.champion_watcher import Follower
from cxr_platform.serving.heatmap import overlay
from cxr_platform.serving.keys import Keys
from cxr_platform.serving.problems import MEDIA_TYPE, Problem
from cxr_platform.serving.screener import Prepared, Screener, Screening, decide, prepare
from cxr_platform.serving.service import Service

ALIKE = tuple([1 / 7] * 7)


def probabilities(**shares: float) -> tuple[float, ...]:
    """Of the seven classes; what the named ones leave is shared by the others."""
    rest = (1 - sum(shares.values())) / (len(CLASSES) - len(shares))
    return tuple(shares.get(name, rest) for name in CLASSES)


class Scripted(Screener):
    """Decodes, measures and judges as ever; `script` says what the network answers to an image, by its pixels."""

    script: dict[bytes, tuple[float, ...]]

    def __init__(self, folder: Any, bundle: Bundle, script: dict[bytes, tuple[float, ...]]) -> None:
        super().__init__(folder, bundle, threads=1)
        self.script = script

    def screen(self, prepared: Any) -> list[Screening]:
        return [self._scripted(screening) for screening in super().screen(prepared)]

    def _scripted(self, screening: Screening) -> Screening:
        row = np.array(self.script.get(screening.prepared.letterboxed.tobytes(), ALIKE))
        findings = tuple(f for f in screening.findings if f.code != "unlike-training-images")
        covid19 = float(row[0])
        return replace(
            screening,
            label=CLASSES[int(row.argmax())],
            probabilities=row,
            covid19=covid19,
            findings=findings,
            decision="not-screenable" if findings else decide(covid19, self.bundle.operating_point),
        )


class Artist:
    """The colleague who has TensorFlow, without it: a heatmap with one hot place, in the lower left."""

    async def prepare(self, data: bytes, preprocessing: Preprocessing) -> Prepared:
        return prepare(data, preprocessing)

    async def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:  # noqa: ARG002
        down, across = np.mgrid[0:48, 0:48] / 48
        spots = [(0.70, 0.24, 1.0), (0.66, 0.78, 0.45)]
        heat = sum(weight * np.exp(-((down - y) ** 2 + (across - x) ** 2) / 0.012) for y, x, weight in spots)
        return overlay(np.asarray(heat, np.float32) / np.max(heat))


class PageServer:
    """`url` while it runs. The next `busy` uploads are told to come back in a second."""

    def __init__(self, registry: Registry, keys: Keys | None = None) -> None:
        self.script: dict[bytes, tuple[float, ...]] = {}
        self.busy = 0
        self.uploads: list[int] = []
        champion: Follower[Screener] = Follower(registry, lambda folder, bundle: Scripted(folder, bundle, self.script))
        self.preprocessing = champion.current[1].bundle.preprocessing
        self._app = build_app(Service(champion, colleague=Artist()), keys)
        config = uvicorn.Config(
            self._asgi, "127.0.0.1", 0, log_level="critical", ws="none", http="h11", interface="asgi3"
        )
        self._server = uvicorn.Server(config)

    def answer(self, data: bytes, **shares: float) -> bytes:
        """Have the image in the file `data` answered with `probabilities(**shares)`; returns `data`."""
        self.script[prepare(data, self.preprocessing).letterboxed.tobytes()] = probabilities(**shares)
        return data

    @contextmanager
    def running(self) -> Iterator["PageServer"]:
        thread = threading.Thread(target=self._server.run, daemon=True)
        thread.start()
        while not self._server.started:
            assert thread.is_alive(), "the server did not start"
            thread.join(0.02)
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}/"
        try:
            yield self
        finally:
            self._server.should_exit = True
            thread.join(10)

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            self.uploads.append(int(dict(scope["headers"]).get(b"content-length", b"0")))
            if self.busy:
                self.busy -= 1
                await self._come_back(send)
                return
        await self._app(scope, receive, send)

    async def _come_back(self, send: Any) -> None:
        problem = Problem("busy")
        headers = {**problem.headers, "content-type": MEDIA_TYPE, "connection": "close"}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": json.dumps(problem.details("0" * 32)).encode()})
