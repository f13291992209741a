"""infra/kubernetes: what stays available when a node, the head or a machine is lost, and what disks must hold."""

import json
from pathlib import Path

import pytest

from cxr_platform.cluster import NODE_GROUPS
from cxr_platform.config import load_profile
from cxr_platform.storage.node_cache import FOLDER as CACHE
from cxr_platform.storage.node_cache import LIMIT as CACHE_GIB
from pipelines import simulate
from tests.infra.rendered import (
    EACH,
    clusters,
    cores,
    environment,
    gib,
    groups,
    objects,
    one,
    pods,
    ray_container,
    rendered_with,
    without_registry,
)
from tests.infra.test_kubernetes import GPU
from tests.infra.test_kubernetes_serving import deployed, options
from tests.infra.test_schemas import problems

DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"


@EACH
def test_two_replicas_are_on_two_nodes(folder: str) -> None:
    (workers,) = clusters(folder)["RayService"]["workerGroupSpecs"]
    given = options(deployed(folder))
    assert given.replicas_per_node == 1
    assert workers["minReplicas"] == workers["replicas"] == given.min_replicas == 2
    assert workers["maxReplicas"] <= given.max_replicas


@pytest.mark.parametrize("folder", ["base", "overlays/gpu", "overlays/gpu-s3"])
def test_the_nodes_are_on_different_machines(folder: str) -> None:
    (workers,) = clusters(folder)["RayService"]["workerGroupSpecs"]
    machines, zones = workers["template"]["spec"]["topologySpreadConstraints"]
    assert (machines["topologyKey"], machines["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "DoNotSchedule")
    assert machines["minDomains"] == 2, "or one machine alone would be no skew"
    assert (zones["topologyKey"], zones["whenUnsatisfiable"]) == ("topology.kubernetes.io/zone", "ScheduleAnyway")
    for constraint in (machines, zones):
        assert constraint["labelSelector"] == {"matchLabels": {"ray.io/group": workers["groupName"]}}
        assert constraint["matchLabelKeys"] == ["ray.io/cluster"], "two clusters are side by side during an upgrade"


def test_the_small_overlay_needs_one_machine() -> None:
    (workers,) = clusters("overlays/small")["RayService"]["workerGroupSpecs"]
    assert "topologySpreadConstraints" not in workers["template"]["spec"]


@EACH
def test_a_drained_machine_leaves_a_replica(folder: str) -> None:
    budget = one(folder, "PodDisruptionBudget")
    (workers,) = clusters(folder)["RayService"]["workerGroupSpecs"]
    assert budget["spec"]["selector"] == {"matchLabels": {"ray.io/group": workers["groupName"]}}
    assert budget["spec"]["minAvailable"] == 1, "an integer: KubeRay's pods have no scale that Kubernetes knows"
    assert workers["minReplicas"] > budget["spec"]["minAvailable"], "or no machine could ever be drained"


@EACH
def test_a_stopped_node_finishes_its_requests_first(folder: str) -> None:
    timeout = deployed(folder)["http_options"]["request_timeout_s"]
    for group in groups(clusters(folder)["RayService"]):
        drain = float(environment(ray_container(group))[DRAIN])
        assert timeout <= drain < group["template"]["spec"]["terminationGracePeriodSeconds"]


def test_ray_reads_the_time_of_the_drain() -> None:
    """The variable is private to Ray, which would ignore another name."""
    from ray._private import ray_constants

    assert getattr(ray_constants, DRAIN) > 0


@EACH
def test_the_records_of_serving_outlive_its_head(folder: str) -> None:
    """tests/cluster/test_serve_deploy.py replaces such a head."""
    kept = clusters(folder)["RayService"]["gcsFaultToleranceOptions"]
    assert kept["backend"] == "rocksdb"
    assert gib(kept["storage"]["size"]) >= 1
    assert one(folder, "RayService")["spec"]["upgradeStrategy"] == {"type": "NewCluster"}
    assert "gcsFaultToleranceOptions" not in clusters(folder)["RayJob"], "a study continues from its storage"


@EACH
def test_a_study_that_hangs_does_not_hold_its_nodes(folder: str) -> None:
    assert one(folder, "RayJob")["spec"]["activeDeadlineSeconds"] == 3 * 24 * 3600


@EACH
def test_what_a_study_spills_has_a_disk_of_a_known_size(folder: str) -> None:
    for group in groups(clusters(folder)["RayCluster"]):
        container = ray_container(group)
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        assert environment(container)["RAY_object_spilling_directory"] == mounts["spill"]
        size = gib(volumes["spill"]["emptyDir"]["sizeLimit"])
        assert size < gib(container["resources"]["limits"]["ephemeral-storage"]), "room for logs beside it"


@EACH
def test_the_cache_of_a_node_fits_on_its_volume_beside_what_is_spilled(folder: str) -> None:
    for group in groups(clusters(folder)["RayCluster"]):
        container = ray_container(group)
        (volume,) = (each for each in group["template"]["spec"]["volumes"] if each["name"] == "spill")
        assert environment(container)[CACHE].startswith("/srv/cxr/spill/")
        assert float(environment(container)[CACHE_GIB]) <= gib(volume["emptyDir"]["sizeLimit"]) / 2


@pytest.mark.parametrize(
    ("folder", "profile", "images"),
    [("overlays/gpu", "paper", 112_120), ("overlays/gpu-s3", "paper", 112_120), ("overlays/small", "quick", 3905)],
)
def test_what_an_overlay_requests_covers_the_need_that_simulate_prints(
    folder: str, profile: str, images: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the largest study that it is for: all strategies, as many trials on a node as it has processors for."""
    for group in groups(clusters(folder)["RayJob"]):
        container = ray_container(group)
        requests = container["resources"]["requests"]
        trials = int(cores(requests["cpu"]) / load_profile(profile).resources.cpu)
        words = ["--profile", profile, "--images", str(images), "--trials-per-gpu", str(max(1, trials))]
        assert simulate.main(["--rate", "1000", "20000", *words, "--gpus", "1", "--needs", "--json"]) == 0
        need = json.loads(capsys.readouterr().out)["needs_gib"]
        (volume,) = (each for each in group["template"]["spec"]["volumes"] if each["name"] == "spill")
        cache = float(environment(container)[CACHE_GIB])
        assert need["cache"] <= cache <= gib(volume["emptyDir"]["sizeLimit"]) <= gib(requests["ephemeral-storage"])
        assert need["memory"] <= gib(requests["memory"])
    claims = [each for each in objects(folder) if each["kind"] == "PersistentVolumeClaim"]
    sizes = {each["metadata"]["name"]: gib(each["spec"]["resources"]["requests"]["storage"]) for each in claims}
    assert need["volume"] < sizes.get("cxr-storage", float("inf")) / 2  # the other half: original images, other studies


@EACH
def test_serving_spills_to_memory(folder: str) -> None:
    """No image reaches a disk."""
    for group in groups(clusters(folder)["RayService"]):
        assert environment(ray_container(group))["RAY_object_spilling_directory"] == "/dev/shm"


def test_the_spot_component_adds_nodes_that_may_be_taken_back(tmp_path: Path) -> None:
    trees = rendered_with("spot", "overlays/gpu", tmp_path)
    assert [problem for tree in trees for problem in problems(tree)] == []
    specs = {tree["kind"]: tree["spec"] for tree in trees if tree["kind"] in ("RayCluster", "RayJob")}
    cluster = specs["RayCluster"]
    assert specs["RayJob"]["rayClusterSpec"] == without_registry(cluster)
    *_, paid, spot = cluster["workerGroupSpecs"]
    assert (paid["groupName"], spot["groupName"]) == ("gpu", "gpu-spot")
    assert (spot["minReplicas"], spot["replicas"]) == (0, 0)
    assert ray_container(spot) == ray_container(paid)
    stated = json.loads(environment(ray_container(cluster["headGroupSpec"]))[NODE_GROUPS])
    assert [each["count"] for each in stated] == [group["maxReplicas"] for group in cluster["workerGroupSpecs"]]
    assert stated[2]["resources"] == stated[1]["resources"]
    terms = spot["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    asked = {each["key"] for term in terms["nodeSelectorTerms"] for each in term["matchExpressions"]}
    tolerated = {each["key"] for each in spot["template"]["spec"]["tolerations"]} - {GPU}
    assert tolerated < asked
    assert len(list(pods(trees))) > len(list(pods(objects("overlays/gpu"))))
