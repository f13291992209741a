"""The application as `serve deploy` starts it, which asks no registry first, on a private Ray; beside it another one.

python -m tests.serving.bare_serve REGISTRY PORT

Says "Deployed" and for each deployment whether its replicas are on the head; ends when its standard input does. The
head of this Ray is kept from work (num-cpus 0): the replicas have a second node, of as many processors as they are.
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

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray Serve's models use what Pydantic will remove
    from ray import serve

    from cxr_platform.serving.deployment import LOGGING, build

REPLICAS = 2


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Another:
    """Answers with the length of what it got."""

    async def __call__(self, request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))


def nodes() -> dict[str, list[bool]]:
    """For each deployment, whether its replicas are on the head."""
    from ray.util.state import list_actors

    head = ray.get_runtime_context().get_node_id()
    found: dict[str, list[bool]] = {}
    for actor in list_actors(filters=[("state", "=", "ALIVE")]):
        _, _, deployment = (actor.name or "").partition("SERVE_REPLICA::cxr#")
        if deployment:
            found.setdefault(deployment.partition("#")[0], []).append(actor.node_id == head)
    return found


def main(registry: Path, port: int) -> None:
    prepare_environment()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
    cluster.add_node(num_cpus=REPLICAS)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    try:
        http = {"host": "127.0.0.1", "port": port}
        serve.start(http_options=http, proxy_location="HeadOnly", logging_config=LOGGING)
        arguments = {"registry": str(registry), "least_replicas": REPLICAS, "most_replicas": REPLICAS}
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
