"""Deploy the application without a registry, as `serve deploy` does, and another application on a private Ray.

python -m tests.serving.deployed_apps REGISTRY PORT

Prints "Deployed" and, per deployment, whether its replicas run on the head; ends when standard input is closed. The
head has num-cpus 0, so replicas run on a second node, which has one processor per replica.
"""

import json
import sys
import warnings
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pipelines.serve import prepare_environment
from tests.ports import free_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray Serve's models use what Pydantic will remove
    from ray import serve

    from cxr_platform.serving.deployment import LOGGING, build

REPLICAS = 2


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Another:
    """Answers with the length of the body."""

    async def __call__(self, request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))


def nodes() -> dict[str, list[bool]]:
    """Return, per deployment, whether its replicas run on the head."""
    from ray.util.state import list_actors

    head = ray.get_runtime_context().get_node_id()
    on_head: dict[str, list[bool]] = {}
    for actor in list_actors(filters=[("state", "=", "ALIVE")]):
        _, _, deployment = (actor.name or "").partition("SERVE_REPLICA::cxr#")
        if deployment:
            on_head.setdefault(deployment.partition("#")[0], []).append(actor.node_id == head)
    return on_head


def main(registry: Path, port: int) -> None:
    prepare_environment()
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": free_port()}  # other tests may run a dashboard
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=REPLICAS)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    try:
        http = {"host": "127.0.0.1", "port": port}
        serve.start(http_options=http, proxy_location="HeadOnly", logging_config=LOGGING)
        arguments = {"registry": str(registry), "min_replicas": REPLICAS, "max_replicas": REPLICAS}
        serve.run(build(arguments), name="cxr", route_prefix="/")
        serve.run(Another.bind(), name="another", route_prefix="/theirs")  # type: ignore[attr-defined]
        print("Deployed", json.dumps(nodes()), flush=True)
        sys.stdin.read()
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
