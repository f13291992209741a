"""The Ray Serve application: replicas that screen, behind Serve's proxy, and one colleague with TensorFlow.

    proxy (front.py) ──▶ Screening: decodes, infers, answers; autoscaled ──▶ Explainer: heatmaps, DICOM
                             both follow the registry

Decoding and inference are in the ingress replica itself: a second hop would copy every image once more. Only what needs
TensorFlow goes further, so that a replica starts in seconds and stays small, and so that a native DICOM decoder that
dies over a hostile file takes no screening with it.

`serve deploy` imports `build` and gives it the arguments of infra/serve/config.yaml, `python -m pipelines.serve` calls
it; `serve build cxr_platform.serving.deployment:app` writes a configuration for the registry that CXR_REGISTRY names.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from ray import serve

from cxr_platform.registry.bundle import Bundle, Preprocessing
from cxr_platform.registry.store import Registry
from cxr_platform.serving.champion_watcher import Follower
from cxr_platform.serving.explainer_client import ROOM, SLIVER, Decoded, RemoteColleague, decoded
from cxr_platform.serving.heatmap import HeatmapMaker, overlay
from cxr_platform.serving.keys import find_keys
from cxr_platform.serving.log_silencing import quiet_libraries
from cxr_platform.serving.problems import RETRY_SECONDS
from cxr_platform.serving.screener import Screener
from cxr_platform.serving.service import Service
from cxr_platform.validation import Record, validate

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application
    from ray.serve.handle import DeploymentHandle

ONGOING, QUEUED = 64, 32
"""Calls that a replica has at a time, and those that may wait for one in each proxy; more get 429.

A call is a request or a pack of them (`gather.py`, where most requests wait). The others wait in the replica and hardly
in the proxy: Serve's router looks for a free replica with growing pauses, and where most requests waited for it, two
replicas answered a third of what they can."""

MOST_WAITING = 2 * ONGOING
"""Requests that a replica has at a time, those in packs included: two seconds of work; more get 429."""

WANTED = 1.5
"""Calls a replica that autoscaling aims at. A proxy sends each replica one to work on and one that waits for that to be
done, and keeps back what comes meanwhile: where there are mostly two, requests wait, and further replicas help."""

REGISTRY_VARIABLE = "CXR_REGISTRY"
LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""An access log would hold request lines; what is worth counting is in the metrics."""


class Options(Record):
    """The arguments of the application, as `args` of a Serve configuration gives them.

    `workers` is the number of images that a replica works on at a time; it reserves as many processors, but for
    `colleague.ROOM`. `keys_file` is read on every node; without it CXR_API_KEYS_FILE and CXR_API_KEYS are. Without keys
    only loopback is answered.
    """

    registry: str
    keys_file: str | None = None
    least_replicas: int = 1
    most_replicas: int = 8
    workers: int = 1
    gpu: float | Literal["auto"] = "auto"
    explain: bool = True


def build(args: Mapping[str, Any]) -> "Application":
    """The application for `Options` as plain values; raises `ConfigError` for an unknown or wrong one."""
    options = validate(Options, args, "arguments of the application")
    find_keys(_path(options.keys_file), os.environ)
    explainer = Explainer.bind(options) if options.explain else None  # type: ignore[attr-defined]
    scaling = {
        "min_replicas": options.least_replicas,
        "max_replicas": max(options.least_replicas, options.most_replicas),
        "initial_replicas": options.least_replicas,
        "target_ongoing_requests": WANTED,
        "upscale_delay_s": 5,
        "downscale_delay_s": 120,
    }
    resources = {"num_cpus": options.workers - ROOM, "num_gpus": _gpus(options.gpu)}
    screening = Screening.options(autoscaling_config=scaling, ray_actor_options=resources)  # type: ignore[attr-defined]
    application: Application = screening.bind(options, explainer)
    return application


@serve.deployment(
    max_ongoing_requests=ONGOING,
    max_queued_requests=QUEUED,
    backpressure_config={"status_code": 429, "retry_after_s": RETRY_SECONDS},
    health_check_period_s=2,
    health_check_timeout_s=30,
    graceful_shutdown_timeout_s=30,
    logging_config=LOGGING,
)
@serve.ingress()
class Screening:
    """A replica: its constructor returns once a model is loaded and warm, so that it is asked anything only then.

    Where there is none to be loaded yet, it returns too: a replica that waits answers 503 and says why (`follow.py`).
    """

    def __init__(self, options: Options, explainer: "DeploymentHandle | None") -> None:
        from cxr_platform.serving.metrics import RayMetrics

        self._keys = find_keys(_path(options.keys_file), os.environ)
        self.service = Service(
            Follower(Registry(Path(options.registry)), _warm_screener, patient=True),
            workers=options.workers,
            colleague=None if explainer is None else RemoteColleague(explainer),
            metrics=RayMetrics(),
            most_waiting=MOST_WAITING,
        )

    def __serve_build_asgi_app__(self) -> "FastAPI":
        from cxr_platform.serving.app import build_app

        return build_app(self.service, self._keys)


@serve.deployment(
    max_ongoing_requests=4,
    max_queued_requests=QUEUED,
    ray_actor_options={"num_cpus": SLIVER},
    health_check_period_s=2,
    health_check_timeout_s=120,
    logging_config=LOGGING,
)
class Explainer:
    """TensorFlow, for what needs it. Asked seldom, and at work while others wait, it reserves hardly any processor."""

    def __init__(self, options: Options) -> None:
        from cxr_platform.monitoring.replica import Repeated

        quiet_libraries()
        self._makers = Follower(Registry(Path(options.registry)), _warm_maker, patient=True)
        self._looking = Repeated(self._makers.look)

    def prepare(self, data: bytes, preprocessing: Preprocessing) -> Decoded:
        """See `colleague.decoded`."""
        return decoded(data, preprocessing)

    def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:
        """See `service.Colleague`."""
        return overlay(self._makers.of(version).make(image, target))


def __getattr__(name: str) -> "Application":
    """`app`, made when it is asked for: `serve build` wants an application and gives no arguments."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return build({"registry": os.environ.get(REGISTRY_VARIABLE, "registry")})


def _warm_screener(folder: Path, bundle: Bundle) -> Screener:
    """One thread a call: images are worked on side by side, which loses nothing to dividing one among cores."""
    screener = Screener(folder, bundle, threads=1)
    screener.warm_up()
    return screener


def _warm_maker(folder: Path, bundle: Bundle) -> HeatmapMaker:
    maker = HeatmapMaker(folder, bundle)
    side = bundle.preprocessing.input_size
    maker.make(np.zeros((side, side), np.uint8), 0)
    return maker


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _gpus(gpu: float | Literal["auto"]) -> float:
    """The share of a GPU that a replica reserves; "auto": a quarter where ONNX Runtime has CUDA and Ray a GPU."""
    import ray

    from cxr_platform.serving.runtime import GPU, providers

    if gpu != "auto":
        return gpu
    known = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1
    return 0.25 if known and GPU in providers() else 0.0
