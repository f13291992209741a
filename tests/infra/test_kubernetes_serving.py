"""The RayService of infra/kubernetes against infra/serve/config.yaml and the application's own code."""

from pathlib import PurePosixPath

import yaml

from cxr_platform.serving.api_keys import FILE_VARIABLE
from cxr_platform.serving.deployment import ServingOptions
from cxr_platform.validation import validate
from pipelines.serve import serve_environment
from tests.conftest import REPOSITORY
from tests.infra.rendered import EACH, Tree, clusters, cores, environment, groups, one, ray_container

CONFIG = REPOSITORY / "infra" / "serve" / "config.yaml"


def deployed(folder: str) -> Tree:
    config: Tree = yaml.safe_load(one(folder, "RayService")["spec"]["serveConfigV2"])
    return config


def options(config: Tree) -> ServingOptions:
    return validate(ServingOptions, config["applications"][0]["args"], "arguments of the application")


@EACH
def test_the_configuration_is_the_same_as_outside_kubernetes(folder: str) -> None:
    elsewhere = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    here = deployed(folder)
    assert here["http_options"].pop("host") == "0.0.0.0", "KubeRay and the Service ask the pod's address"
    assert elsewhere["http_options"].pop("host") == "127.0.0.1"
    for config, replicas_per_node in ((here, 1), (elsewhere, None)):
        assert config["applications"][0]["args"].pop("replicas_per_node") == replicas_per_node
    assert here == elsewhere


@EACH
def test_serve_and_the_application_accept_the_configuration(folder: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    config = deployed(folder)
    ServeDeploySchema.model_validate(config)
    cluster = clusters(folder)["RayService"]
    given = options(config)
    workers = cluster["workerGroupSpecs"][0]
    room = workers["maxReplicas"] * cores(ray_container(workers)["resources"]["limits"]["cpu"])
    assert given.min_replicas * given.workers <= room


@EACH
def test_every_serving_node_has_registry_keys_and_environment(folder: str) -> None:
    config = deployed(folder)
    registry = options(config).registry
    for group in groups(clusters(folder)["RayService"]):
        container = ray_container(group)
        variables = environment(container)
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        keys = next(v["secret"] for v in group["template"]["spec"]["volumes"] if v["name"] == "api-keys")
        assert variables.items() >= serve_environment().items()
        assert str(PurePosixPath(variables[FILE_VARIABLE]).parent) == mounts["api-keys"]["mountPath"]
        assert PurePosixPath(variables[FILE_VARIABLE]).name == "keys", "the Secret's key, which is the file's name"
        assert keys == {"secretName": "cxr-api-keys", "defaultMode": 0o440}, "read by the group of the pod's volumes"
        assert mounts["registry"]["mountPath"] == registry
        assert mounts["registry"]["readOnly"] is True
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert ports["serve"] == config["http_options"]["port"]


@EACH
def test_the_head_of_the_cluster_and_serving_mount_the_same_registry(folder: str) -> None:
    head = clusters(folder)["RayCluster"]["headGroupSpec"]
    mount = next(each for each in ray_container(head)["volumeMounts"] if each["name"] == "registry")
    assert mount["mountPath"] == options(deployed(folder)).registry
    assert not mount.get("readOnly")
