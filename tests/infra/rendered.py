"""infra/kubernetes as kustomize renders it, with helpers to read it."""

import copy
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.infra.tools import run, tool

Tree = dict[str, Any]

KUBERNETES = REPOSITORY / "infra" / "kubernetes"
FOLDERS = ("base", "overlays/small", "overlays/gpu", "overlays/gpu-s3")
EACH = pytest.mark.parametrize("folder", FOLDERS)
CLUSTER_OF = {"RayCluster": "", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}


def rendered(place: Path) -> list[Tree]:
    """All objects of a folder with a kustomization.yaml."""
    done = run(tool("kubectl"), "kustomize", place)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def rendered_with(component: str, overlay: str, folder: Path) -> list[Tree]:
    """All objects of an overlay with a component of ours, as a user adds it: from beside a copy of infra/kubernetes."""
    shutil.copytree(KUBERNETES, folder / "kubernetes")
    mine = {
        "resources": [f"../kubernetes/{overlay}"],
        "components": [f"../kubernetes/{component}"],
        "transformers": ["../kubernetes/study-nodes"],
    }
    (folder / "mine").mkdir()
    (folder / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(mine), encoding="utf-8")
    return rendered(folder / "mine")


@cache
def _kept(folder: str) -> list[Tree]:
    return rendered(KUBERNETES / folder)


def objects(folder: str) -> list[Tree]:
    """All objects of a base or overlay of ours; a copy, so that a test may change them."""
    return copy.deepcopy(_kept(folder))


def one(folder: str, kind: str, name: str | None = None) -> Tree:
    """The object of a kind, and of a name where there are several."""
    matches = [each for each in objects(folder) if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(matches) == 1, (kind, name)
    return matches[0]


def clusters(folder: str) -> dict[str, Tree]:
    """The Ray clusters that an overlay describes, by the kind of the object that they belong to."""
    specs = {}
    for each in objects(folder):
        if each["kind"] in CLUSTER_OF:
            key = CLUSTER_OF[each["kind"]]
            specs[each["kind"]] = each["spec"][key] if key else each["spec"]
    return specs


def groups(cluster: Tree) -> list[Tree]:
    """The head and the worker groups."""
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def without_registry(cluster: Tree) -> Tree:
    """Return a RayCluster's spec whose head does not mount the registry, as that of a study does not."""
    changed = copy.deepcopy(cluster)
    pod = changed["headGroupSpec"]["template"]["spec"]
    for owner, field in ((pod, "volumes"), (pod["containers"][0], "volumeMounts")):
        owner[field] = [each for each in owner[field] if each["name"] != "registry"]
    return changed


def ray_container(group: Tree) -> Tree:
    """The container in which a group's Ray runs: KubeRay takes the first."""
    container: Tree = group["template"]["spec"]["containers"][0]
    return container


def pods(tree: Any) -> Iterator[Tree]:
    """Every pod template in `tree`, however deep: what has a `spec` with containers."""
    if isinstance(tree, list):
        for each in tree:
            yield from pods(each)
    elif isinstance(tree, dict):
        if "containers" in (tree.get("spec") or {}):
            yield tree
        for each in tree.values():
            yield from pods(each)


def containers(folder: str) -> Iterator[tuple[Tree, Tree]]:
    """Pod template and container, over everything that an overlay describes."""
    for pod in pods(objects(folder)):
        for container in pod["spec"]["containers"]:
            yield pod, container


def environment(container: Tree) -> dict[str, str]:
    """The plain variables of a container."""
    return {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}


def gib(quantity: str) -> float:
    """A Kubernetes quantity of memory or storage in GiB."""
    units = {"Mi": 1 / 1024, "Gi": 1.0, "Ti": 1024.0}
    return float(quantity[:-2]) * units[quantity[-2:]]


def cores(quantity: str) -> float:
    """A Kubernetes quantity of processors."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
