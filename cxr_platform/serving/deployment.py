"""The Ray Serve application: autoscaled replicas that screen, behind Serve's proxy, and one Explainer with Keras.

    proxy (proxy_middleware) ──▶ Screening: decodes, infers, answers ──▶ Explainer: heatmaps
                                     both follow the registry

Decoding and inference run in the ingress replica itself, because a second hop would copy every image once more; DICOM
is decoded in a process beside it (`dicom_decoder`). Only heatmaps, which need Keras, go to the Explainer. So a
replica starts in seconds and stays small.

`serve deploy` imports `build` and passes the arguments of infra/serve/config.yaml; `cxr serve` calls it;
`serve build cxr_platform.serving.deployment:app` writes a configuration for the registry that CXR_REGISTRY names.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from ray import serve
from typing_extensions import Self

from cxr_platform.registry.bundle import Bundle
from cxr_platform.registry.signing import read_public_key
from cxr_platform.registry.store import Registry
from cxr_platform.serving.api_keys import KeyCheck, load_keys
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.dicom_decoder import DicomDecoder
from cxr_platform.serving.explainer_client import EXPLAINER_CPUS, RESERVED_CPUS, ExplainerClient
from cxr_platform.serving.heatmap import HeatmapNetwork, overlay_png
from cxr_platform.serving.problems import RETRY_SECONDS
from cxr_platform.serving.screener import CUDA, Screener, execution_providers
from cxr_platform.serving.service import Service, silence_libraries
from cxr_platform.serving.shadow import Shadow
from cxr_platform.validation import Record, validate

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application
    from ray.serve.handle import DeploymentHandle

MAX_ONGOING_CALLS, MAX_QUEUED_CALLS = 64, 32
"""Calls that a replica has at a time, and calls that may wait for a replica in each proxy; more get 429.

A call is a request or a batch of them (`request_batcher`, where most requests wait). Other requests wait in the replica
rather than in the proxy: Serve's router looks for a free replica with growing pauses, and when most requests waited for
it, two replicas answered a third of what they can."""

MAX_WAITING_REQUESTS = 2 * MAX_ONGOING_CALLS
"""Requests that a replica has at a time, those in batches included: about two seconds of work; more get 429."""

TARGET_CALLS = 0.75
"""Calls per replica that autoscaling aims at. A proxy that keeps requests back has one call per replica running; if
there mostly is one, requests are waiting and more replicas help. One client without pauses gets at most two."""

DRAIN_STEP_SECONDS = 0.5
"""How often a replica that ends counts its requests. Serve's default of 2 s is most of the end of a server."""

AUTO_GPU_SHARE = 0.25
REGISTRY_VARIABLE = "CXR_REGISTRY"
LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""No access log: it would contain request lines. What is worth counting is in the metrics."""


class ServingOptions(Record):
    """The arguments of the application: `args` of a Serve configuration."""

    registry: str = Field(min_length=1, description="Folder of the registry, the same on every node.")
    keys_file: str | None = Field(
        None,
        description="File of API keys, read on every node. null: CXR_API_KEYS_FILE, then CXR_API_KEYS. "
        "Without any keys only clients on loopback are answered.",
    )
    min_replicas: int = Field(1, ge=1, description="Replicas at the start and at least.")
    max_replicas: int = Field(8, ge=1, description="Replicas at most.")
    replicas_per_node: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None,
        description="Replicas on one node at most: with 1, two replicas are on two nodes, and one lost node ends one. "
        "null: as many as have room.",
    )
    workers: int = Field(
        1, ge=1, description="Images that a replica works on at a time; it reserves as many processors."
    )
    gpu: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="Share of a GPU that a replica reserves. auto: a quarter if Ray has a GPU and ONNX Runtime CUDA.",
    )
    public_key: str | None = Field(
        None, description="Public key of minisign (RW…): versions that its owner has not signed are not loaded."
    )
    shadow: Annotated[str, Field(pattern=r"^v\d+$")] | None = Field(
        None,
        description="A version that screens each image after the champion, unseen by clients: its decisions are "
        "counted beside the champion's, for `cxr registry compare`.",
    )
    explain: bool = Field(True, description="Start the Explainer, which heatmaps need.")

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas of at least min_replicas, {self.min_replicas}, not {self.max_replicas}")
        return self


def build(args: Mapping[str, Any]) -> "Application":
    """Return the application for `ServingOptions` as plain values; raise `ConfigError` for an invalid one."""
    options = validate(ServingOptions, args, "arguments of the application")
    _keys(options)
    if options.public_key is not None:
        read_public_key(options.public_key)
    explainer = ExplainerReplica.bind(options) if options.explain else None  # type: ignore[attr-defined]
    scaling = {
        "min_replicas": options.min_replicas,
        "max_replicas": options.max_replicas,
        "initial_replicas": options.min_replicas,
        "target_ongoing_requests": TARGET_CALLS,
        "upscale_delay_s": 5,
        "downscale_delay_s": 120,
    }
    resources = {"num_cpus": options.workers - RESERVED_CPUS, "num_gpus": _gpu_share(options.gpu)}
    screening = ScreeningReplica.options(  # type: ignore[attr-defined]
        autoscaling_config=scaling, ray_actor_options=resources, max_replicas_per_node=options.replicas_per_node
    )
    application: Application = screening.bind(options, explainer)
    return application


@serve.deployment(
    name="Screening",
    max_ongoing_requests=MAX_ONGOING_CALLS,
    max_queued_requests=MAX_QUEUED_CALLS,
    backpressure_config={"status_code": 429, "retry_after_s": RETRY_SECONDS},
    health_check_period_s=2,
    health_check_timeout_s=30,
    graceful_shutdown_timeout_s=30,
    graceful_shutdown_wait_loop_s=DRAIN_STEP_SECONDS,
    logging_config=LOGGING,
)
@serve.ingress()
class ScreeningReplica:
    """A replica of the ingress deployment. It starts once a model is loaded and warm, so that no request waits for it.

    If no model can be loaded yet, it starts too, and answers 503 with the reason (`champion_watcher`).
    """

    def __init__(self, options: ServingOptions, explainer: "DeploymentHandle | None") -> None:
        from cxr_platform.serving.metrics import RayMetrics

        self._key_check, metrics = _keys(options), RayMetrics()
        registry, challenger = Registry(Path(options.registry), options.public_key), options.shadow
        shadow = None
        if challenger is not None:
            shadow = Shadow(lambda: _load_screener(*registry.open(challenger)), metrics)
        self.service = Service(
            ChampionWatcher(registry, _load_screener, wait=True),
            workers=options.workers,
            explainer=None if explainer is None else ExplainerClient(explainer),
            decoder=DicomDecoder(metrics),
            shadow=shadow,
            metrics=metrics,
            max_waiting=MAX_WAITING_REQUESTS,
        )

    def __serve_build_asgi_app__(self) -> "FastAPI":
        from cxr_platform.serving.app import build_app

        return build_app(self.service, self._key_check)


@serve.deployment(
    name="Explainer",
    max_ongoing_requests=4,
    max_queued_requests=MAX_QUEUED_CALLS,
    ray_actor_options={"num_cpus": EXPLAINER_CPUS},
    health_check_period_s=2,
    health_check_timeout_s=120,
    graceful_shutdown_wait_loop_s=DRAIN_STEP_SECONDS,
    logging_config=LOGGING,
)
class ExplainerReplica:
    """The process with Keras. It is needed rarely and reserves almost no processor."""

    def __init__(self, options: ServingOptions) -> None:
        from cxr_platform.monitoring.replica_metrics import Repeated

        silence_libraries()
        registry = Registry(Path(options.registry), options.public_key)
        self._networks = ChampionWatcher(registry, _load_heatmap_network, wait=True)
        self._polling = Repeated(self._networks.poll)

    def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:
        """See `explainer_client.Explainer`."""
        network = self._networks.version(version)
        assert network is not None, "replicas do not ask for heatmaps that a model does not have"
        return overlay_png(network.heatmap(image, target))


def __getattr__(name: str) -> "Application":
    """Build `app` when it is requested: `serve build` needs an application and passes no arguments."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return build({"registry": os.environ.get(REGISTRY_VARIABLE, "registry")})


def _keys(options: ServingOptions) -> KeyCheck | None:
    return load_keys(None if options.keys_file is None else Path(options.keys_file), os.environ)


def _load_screener(folder: Path, bundle: Bundle) -> Screener:
    """Use one thread per image: images are screened in parallel, and dividing one among cores gains nothing."""
    screener = Screener(folder, bundle, threads=1)
    screener.warm_up()
    return screener


def _load_heatmap_network(folder: Path, bundle: Bundle) -> HeatmapNetwork | None:
    """Return the network of a bundle, `None` for one without heatmaps."""
    if bundle.preprocessing.views is not None:
        return None
    network = HeatmapNetwork(folder, bundle)
    side = bundle.preprocessing.input_size
    network.heatmap(np.zeros((side, side), np.uint8), 0)  # compiles
    return network


def _gpu_share(gpu: float | Literal["auto"]) -> float:
    import ray

    if gpu != "auto":
        return gpu
    has_gpu = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1
    return AUTO_GPU_SHARE if has_gpu and CUDA in execution_providers() else 0.0
