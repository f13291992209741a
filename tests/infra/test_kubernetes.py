"""infra/kubernetes: its parts agree with each other, with the image and with the code."""

import json
import shlex
from pathlib import Path

from cxr_platform.cluster import NODE_GROUPS
from cxr_platform.config import load_profile
from tests.conftest import REPOSITORY
from tests.infra.dockerfile import dockerfile
from tests.infra.entrypoints import parse
from tests.infra.project import PROJECT
from tests.infra.rendered import (
    EACH,
    FOLDERS,
    KUBERNETES,
    Tree,
    clusters,
    containers,
    cores,
    gib,
    groups,
    objects,
    one,
    pods,
    ray_container,
    rendered_with,
    without_registry,
)

GPU = "nvidia.com/gpu"
STATUS_CHECK_SECONDS = 300
"""RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS of KubeRay 1.7.0, where it is not set."""
README = (REPOSITORY / "infra" / "README.md").read_text(encoding="utf-8")


def test_every_overlay_is_rendered() -> None:
    assert {f"overlays/{each.name}" for each in (KUBERNETES / "overlays").iterdir()} == set(FOLDERS) - {"base"}


@EACH
def test_every_object_is_labelled_with_its_part(folder: str) -> None:
    for each in objects(folder):
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "cxr"
        component = each["metadata"]["labels"]["app.kubernetes.io/component"]
        assert component in ("common", "cluster", "study", "serving"), each["metadata"]["name"]


@EACH
def test_the_study_has_the_nodes_of_the_cluster(folder: str) -> None:
    """But not the registry, which the head of the cluster for jobs by hand mounts to add a champion."""
    study, by_hand = (clusters(folder)[kind] for kind in ("RayJob", "RayCluster"))
    assert study == without_registry(by_hand) != by_hand


@EACH
def test_no_pod_of_a_study_and_no_worker_of_a_job_mounts_the_registry(folder: str) -> None:
    """Their code could replace the champion. What mounts it: one head, which writes, and what serves and shows it."""
    writers = []
    for each in objects(folder):
        for pod in pods(each):
            for volume in pod["spec"].get("volumes", []):
                if volume.get("persistentVolumeClaim", {}).get("claimName") == "cxr-registry":
                    mounts = [mount for made in pod["spec"]["containers"] for mount in made["volumeMounts"]]
                    (mount,) = (mount for mount in mounts if mount["name"] == volume["name"])
                    assert each["kind"] != "RayJob"
                    writers += [] if mount.get("readOnly") else [(each["kind"], pod["spec"]["containers"][0]["name"])]
    assert writers == [("RayCluster", "ray-head")]


@EACH
def test_every_cluster_uses_token_mode_and_scales(folder: str) -> None:
    ray = next(each for each in PROJECT["dependencies"] if each.startswith("ray[")).rpartition("==")[2]
    for cluster in clusters(folder).values():
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["rayVersion"] == ray
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2", "KubeRay sets restartPolicy only where it is written"
        assert not [each for each in groups(cluster) if "restartPolicy" in each["template"]["spec"]], "it is KubeRay's"
        for group in cluster["workerGroupSpecs"]:
            assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"], group["groupName"]
            assert group["maxReplicas"] > 0
    for _, container in containers(folder):
        assert not [each for each in container.get("env", []) if each["name"].startswith("RAY_AUTH")]


@EACH
def test_the_node_groups_of_a_study_are_stated(folder: str) -> None:
    cluster = clusters(folder)["RayCluster"]
    variables = {each["name"]: each["value"] for each in ray_container(cluster["headGroupSpec"])["env"]}
    groups_of_nodes = [
        {
            "resources": {
                name: int(requests[key])
                for name, key in (("CPU", "cpu"), ("GPU", GPU))
                if key in (requests := ray_container(group)["resources"]["requests"])
            },
            "count": group["maxReplicas"],
        }
        for group in cluster["workerGroupSpecs"]
    ]
    assert json.loads(variables[NODE_GROUPS]) == groups_of_nodes


@EACH
def test_images_are_targets_of_the_dockerfile_at_the_version_of_the_package(folder: str) -> None:
    for _, container in containers(folder):
        name, _, version = container["image"].partition(":")
        assert version == PROJECT["version"]
        assert name.removeprefix("cxr-platform/") in dockerfile().images
        asks_for_a_gpu = GPU in container["resources"]["limits"]
        assert asks_for_a_gpu == (name == "cxr-platform/cuda"), "the CUDA image where a GPU is, and only there"


@EACH
def test_no_pod_can_become_root(folder: str) -> None:
    """The profile `restricted` of Kubernetes' Pod Security Standards, which the namespace enforces."""
    assert one(folder, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(objects(folder)):
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == dockerfile().uid
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"])
        for volume in pod["spec"].get("volumes", []):
            assert set(volume) - {"name"} <= {"persistentVolumeClaim", "secret", "configMap", "emptyDir"}
    for _, container in containers(folder):
        _cannot_escalate(container)
    for cluster in clusters(folder).values():
        _cannot_escalate(cluster["autoscalerOptions"])


def _cannot_escalate(container: Tree) -> None:
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"].get("privileged")


@EACH
def test_every_container_has_requests_and_limits(folder: str) -> None:
    for _, container in containers(folder):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert cores(requests["cpu"]) <= cores(limits["cpu"])
        assert gib(requests["memory"]) <= gib(limits["memory"])
        assert gib(requests["ephemeral-storage"]) == gib(limits["ephemeral-storage"]), "more ends the pod"
        if container["name"].startswith("ray-") and container["name"] != "ray-job-submitter":
            assert requests["memory"] == limits["memory"], "Ray takes the limit for what it has"


@EACH
def test_every_volume_is_claimed_and_mounted_on_a_folder_of_the_image(folder: str) -> None:
    claims = {each["metadata"]["name"] for each in objects(folder) if each["kind"] == "PersistentVolumeClaim"}
    used = set()
    for pod in pods(objects(folder)):
        volumes = {each["name"]: each for each in pod["spec"].get("volumes", [])}
        mounts = [mount for container in pod["spec"]["containers"] for mount in container.get("volumeMounts", [])]
        assert {mount["name"] for mount in mounts} == set(volumes)
        for mount in mounts:
            if "persistentVolumeClaim" in volumes[mount["name"]]:
                assert mount["mountPath"] in dockerfile().folders
        used |= {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
    assert used == claims


@EACH
def test_the_files_have_no_secrets_and_the_readme_names_all(folder: str) -> None:
    assert not [each for each in objects(folder) if each["kind"] == "Secret"]
    asked = set()
    for pod, container in containers(folder):
        asked |= {each["secretRef"]["name"] for each in container.get("envFrom", [])}
        asked |= {v["secret"]["secretName"] for v in pod["spec"].get("volumes", []) if "secret" in v}
    assert asked == {"cxr-s3", "cxr-api-keys"}
    for name in asked:
        assert f"create secret generic {name} " in README


@EACH
def test_the_command_of_the_study_is_valid(folder: str) -> None:
    arguments = parse(shlex.split(one(folder, "RayJob")["spec"]["entrypoint"]))
    assert load_profile(arguments.profile, {}).name == ("quick" if folder == "overlays/small" else "paper")


@EACH
def test_a_study_is_resubmitted_after_a_lost_head_but_not_after_a_failure(folder: str) -> None:
    job = one(folder, "RayJob")["spec"]
    assert job["submissionMode"] == "K8sJobMode", "the settings of the submitter are for this mode"
    assert job["backoffLimit"] == 0
    starts = job["submitterConfig"]["backoffLimit"]
    assert 10 * 2 ** (starts - 1) < STATUS_CHECK_SECONDS < 10 * 2**starts, "Kubernetes' pauses between a job's pods"
    for cluster in clusters(folder).values():
        tolerated = cluster["headGroupSpec"]["template"]["spec"]["tolerations"]
        assert {each["key"].partition("/")[2]: each["tolerationSeconds"] for each in tolerated} == {
            "unreachable": 60,
            "not-ready": 60,
        }
        assert {(each["operator"], each["effect"]) for each in tolerated} == {("Exists", "NoExecute")}
    assert "RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS" in README
    assert f"After {STATUS_CHECK_SECONDS} s without an answer" in README


@EACH
def test_the_command_of_the_exporter_is_valid(folder: str) -> None:
    container = one(folder, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    arguments = parse(container["args"])
    assert arguments.port == container["ports"][0]["containerPort"] == container["readinessProbe"]["tcpSocket"]["port"]
    assert str(arguments.registry) == container["volumeMounts"][0]["mountPath"]


def test_all_nodes_of_a_study_see_its_images_and_storage() -> None:
    for folder in FOLDERS:
        words = shlex.split(one(folder, "RayJob")["spec"]["entrypoint"])
        places = [words[words.index(each) + 1] for each in ("--data", "--storage")]
        if folder.endswith("-s3"):
            assert all(place.startswith("s3://") for place in places)
            continue
        for group in groups(clusters(folder)["RayJob"]):
            mounted = [mount["mountPath"] for mount in ray_container(group)["volumeMounts"]]
            assert all(any(f"{place}/".startswith(f"{mount}/") for mount in mounted) for place in places)


def test_with_an_object_store_there_is_no_volume_and_every_node_has_keys() -> None:
    folder = "overlays/gpu-s3"
    assert one(folder, "PersistentVolumeClaim")["metadata"]["name"] == "cxr-registry"
    for group in groups(clusters(folder)["RayJob"]):
        assert [volume["name"] for volume in group["template"]["spec"]["volumes"]] == ["spill"]
        assert ray_container(group)["envFrom"] == [{"secretRef": {"name": "cxr-s3"}}], "not optional any more"


def test_the_gpu_overlay_keeps_one_gpu_node() -> None:
    for folder in ("overlays/gpu", "overlays/gpu-s3"):
        group = clusters(folder)["RayJob"]["workerGroupSpecs"][1]
        assert ray_container(group)["resources"]["limits"][GPU] == "1"
        assert group["minReplicas"] == group["replicas"] == 1
        assert group["maxReplicas"] == 64


def test_a_trial_fits_on_a_node_of_each_group() -> None:
    for folder, profile in (("base", "paper"), ("overlays/gpu", "paper"), ("overlays/small", "quick")):
        for group in clusters(folder)["RayJob"]["workerGroupSpecs"]:
            assert cores(ray_container(group)["resources"]["limits"]["cpu"]) >= load_profile(profile, {}).resources.cpu


def test_the_component_of_the_jax_stack_gives_every_container_its_image(tmp_path: Path) -> None:
    trees = rendered_with("stacks/jax", "overlays/gpu", tmp_path)
    chosen = {container["image"] for pod in pods(trees) for container in pod["spec"]["containers"]}
    assert chosen == {f"cxr-platform/jax:{PROJECT['version']}"}
    assert "jax" in dockerfile().images
