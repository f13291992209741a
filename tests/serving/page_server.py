"""A real server on loopback for the page: the application with real decoding and probabilities set by a test."""

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
from cxr_platform.registry.bundle import Bundle
from cxr_platform.registry.store import Registry
from cxr_platform.serving.api_keys import ApiKeys
from cxr_platform.serving.app import build_app
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.heatmap import overlay_png
from cxr_platform.serving.problems import MEDIA_TYPE, Problem
from cxr_platform.serving.schema import Decision
from cxr_platform.serving.screener import Screener, Screening, decide, prepare_image
from cxr_platform.serving.service import Service

EQUAL = tuple([1 / 7] * 7)


def probabilities(**shares: float) -> tuple[float, ...]:
    """Probabilities of the seven classes; the classes that are not named share the rest."""
    rest = (1 - sum(shares.values())) / (len(CLASSES) - len(shares))
    return tuple(shares.get(name, rest) for name in CLASSES)


class ScriptedScreener(Screener):
    """A screener whose probabilities come from `script`, by the pixels of the image; heads disagree on some images."""

    def __init__(
        self, folder: Any, bundle: Bundle, script: dict[bytes, tuple[float, ...]], disagreements: set[bytes]
    ) -> None:
        super().__init__(folder, bundle, threads=1)
        self.script, self.disagreements = script, disagreements

    def screen(self, prepared: Any) -> list[Screening]:
        return [self._scripted(screening) for screening in super().screen(prepared)]

    def _scripted(self, screening: Screening) -> Screening:
        row = np.array(self.script.get(screening.prepared.letterboxed.tobytes(), EQUAL))
        findings = tuple(f for f in screening.findings if f.code != "unlike-training-images")
        covid19 = float(row[0])
        disagreement = screening.prepared.letterboxed.tobytes() in self.disagreements
        decision: Decision = "indeterminate" if disagreement else decide(covid19, self.bundle.operating_point)
        return replace(
            screening,
            label=CLASSES[int(row.argmax())],
            probabilities=row,
            covid19=covid19,
            findings=findings,
            decision="not-screenable" if findings else decision,
            disagreement=disagreement,
        )


class FakeExplainer:
    """An Explainer without TensorFlow: heatmaps have their maximum in the lower left."""

    async def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:  # noqa: ARG002
        down, across = np.mgrid[0:48, 0:48] / 48
        spots = [(0.70, 0.24, 1.0), (0.66, 0.78, 0.45)]
        heat = sum(weight * np.exp(-((down - y) ** 2 + (across - x) ** 2) / 0.012) for y, x, weight in spots)
        return overlay_png(np.asarray(heat, np.float32) / np.max(heat))


class PageServer:
    """Available at `url` while it runs. The next `busy` uploads get 429."""

    def __init__(self, registry: Registry, keys: ApiKeys | None = None) -> None:
        self.script: dict[bytes, tuple[float, ...]] = {}
        self.disagreements: set[bytes] = set()
        self.busy = 0
        self.uploads: list[int] = []
        champion: ChampionWatcher[Screener] = ChampionWatcher(
            registry, lambda folder, bundle: ScriptedScreener(folder, bundle, self.script, self.disagreements)
        )
        self.preprocessing = champion.current[1].bundle.preprocessing
        self._app = build_app(Service(champion, explainer=FakeExplainer()), keys)
        config = uvicorn.Config(
            self._asgi, "127.0.0.1", 0, log_level="critical", ws="none", http="h11", interface="asgi3"
        )
        self._server = uvicorn.Server(config)

    def set_result(self, data: bytes, disagreement: bool = False, **shares: float) -> bytes:
        """Set the result for the image file `data` to `probabilities(**shares)`; return `data`.

        With `disagreement` the heads of a gate disagree on it.
        """
        pixels = prepare_image(data, self.preprocessing).letterboxed.tobytes()
        self.script[pixels] = probabilities(**shares)
        if disagreement:
            self.disagreements.add(pixels)
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
                await self._send_busy(send)
                return
        await self._app(scope, receive, send)

    async def _send_busy(self, send: Any) -> None:
        problem = Problem("busy")
        headers = {**problem.headers, "content-type": MEDIA_TYPE, "connection": "close"}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": json.dumps(problem.details("0" * 32)).encode()})
