"""infra/kubernetes/availability.md, the comparison with KubeRay's samples, against what is rendered and deployed."""

import re
from typing import Any

import pytest
import yaml

from cxr_platform.serving.deployment import build
from tests.conftest import REPOSITORY
from tests.infra.rendered import EACH, KUBERNETES, Tree, environment, one, ray_container
from tests.infra.test_kubernetes_serving import deployed

PAGE = (KUBERNETES / "availability.md").read_text(encoding="utf-8")
ABSENT = "–"


def rows() -> list[list[str]]:
    """Field, sample, ours, small and reason of each row."""
    table = PAGE[PAGE.index("| field |") :].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in table if line]


def stated(cell: str) -> Any:
    """The value in a cell, `ABSENT` for a field that is not set."""
    (text,) = re.findall(r"^`(.+)`$", cell)
    return ABSENT if text == ABSENT else yaml.safe_load(text)


def deployments(folder: str) -> Tree:
    """Screening and Explainer, with the options that the application gives them."""
    screening = build(deployed(folder)["applications"][0]["args"])._bound_deployment
    made = [screening, screening.init_args[1]._bound_deployment]
    options = {}
    for each in made:
        scaling = each._deployment_config.autoscaling_config
        options[each.name] = {
            "num_replicas": None if scaling else each.num_replicas,
            "max_replicas_per_node": each._replica_config.max_replicas_per_node,
            "autoscaling_config": None if scaling is None else scaling.model_dump(),
        }
    return options


def fields(folder: str) -> Tree:
    """The RayService's spec with the short names of the page."""
    spec: Tree = one(folder, "RayService")["spec"]
    cluster = spec["rayClusterConfig"]
    (workers,) = cluster["workerGroupSpecs"]
    for name, group in (("head", cluster["headGroupSpec"]), ("workers", workers)):
        pod, container = group["template"]["spec"], ray_container(group)
        volumes = {each["name"]: each for each in pod["volumes"]}
        spec[name] = group | {"pod": pod, "container": container, "env": environment(container), "volume": volumes}
    return spec | deployments(folder) | {"PodDisruptionBudget": one(folder, "PodDisruptionBudget")["spec"]}


def value(tree: Any, path: str) -> Any:
    """What is at a path of names and places in lists; `ABSENT` where there is nothing."""
    for name in path.split("."):
        if isinstance(tree, list):
            tree = tree[int(name)] if int(name) < len(tree) else ABSENT
        else:
            tree = tree.get(name, ABSENT)
        if tree == ABSENT:
            break
    return tree


def same(found: Any, said: Any) -> bool:
    """Whether two values are equal, quantities and quoted numbers as text."""
    return found == said if found is None or isinstance(found, bool) else str(found) == str(said)


@EACH
def test_our_column_is_what_the_manifests_say(folder: str) -> None:
    tree = fields(folder)
    for field, _, ours, small, _ in rows():
        said = stated(small if small and folder == "overlays/small" else ours)
        found = value(tree, field.strip("`"))
        assert same(found, said), (field, found)


def test_a_difference_from_every_sample_has_a_reason() -> None:
    for field, sample, ours, _, reason in rows():
        alike = ours.strip("`") in re.findall(r"`([^`]+)`", sample)
        assert alike or reason, f"{field} differs without a reason"


@pytest.mark.parametrize("path", ["workers.pod.topologySpreadConstraints", "PodDisruptionBudget.minAvailable"])
def test_another_value_would_be_found(path: str) -> None:
    assert value(fields("base"), path) != ABSENT
    assert value(fields("base"), path + "s") == ABSENT


def test_the_page_compares_what_availability_depends_on() -> None:
    compared = " ".join(row[0] for row in rows())
    for word in (
        "max_replicas_per_node", "gcsFaultToleranceOptions", "PodDisruptionBudget", "topologySpreadConstraints",
        "lifecycle", "terminationGracePeriodSeconds", "minReplicas", "memory", "num-cpus",
    ):  # fmt: skip
        assert word in compared, word


def test_the_readme_says_how_the_operator_is_told_of_rocksdb() -> None:
    """KubeRay 1.7.0 refuses the backend without this gate."""
    readme = (REPOSITORY / "infra" / "README.md").read_text(encoding="utf-8")
    assert "kubernetes/availability.md" in readme
    installing = readme[readme.index("## Kubernetes") : readme.index("### Studies")]
    assert "GCSFaultToleranceEmbeddedStorage=true" in installing
