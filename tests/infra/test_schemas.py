"""Every object of infra/kubernetes against KubeRay's CRDs (schemas/) and Kubernetes' own schemas."""

import copy
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.infra.rendered import EACH, Tree, objects, one
from tests.infra.schemas.make import strict

SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = ("1.32", "1.36")  # the second is what KubeRay 1.7.0 is built for


@cache
def schema_of(kind: str) -> Tree:
    schema: Tree = json.loads(gzip.decompress((SCHEMAS / f"{kind.lower()}s.json.gz").read_bytes()))
    return schema


def problems(tree: Tree) -> list[str]:
    """Return the errors that an API server would report for an object, for each version of Kubernetes."""
    if tree["apiVersion"] == "ray.io/v1":
        errors = jsonschema.Draft202012Validator(schema_of(tree["kind"])).iter_errors(tree)
        return [f"{error.json_path}: {error.message}" for error in errors]
    import kubernetes_validate

    messages = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(tree, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            messages.append(f"{version}: {error.message}")
    return messages


@EACH
def test_every_object_is_valid(folder: str) -> None:
    rendered_objects = objects(folder)
    assert {each["kind"] for each in rendered_objects} >= {
        "RayCluster",
        "RayJob",
        "RayService",
        "NetworkPolicy",
        "Deployment",
    }
    for each in rendered_objects:
        assert problems(each) == [], (each["kind"], each["metadata"]["name"])


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayCluster", ["spec", "authOptions", "mode"], "tokens"),
        ("RayCluster", ["spec", "headGroupSpec", "template", "spec", "containers", 0, "livenesProbe"], {}),
        ("RayCluster", ["spec", "workerGroupSpecs", 1, "maxReplicas"], "8"),
        ("RayJob", ["spec", "entryPoint"], "python"),
        ("RayJob", ["spec", "rayClusterSpec", "workerGroupSpecs", 0, "minReplica"], 0),
        ("RayService", ["spec", "rayClusterConfig", "autoscalerOptions", "resources", "limits", "cpu"], "two"),
        ("RayService", ["spec", "serveConfigV2"], {"applications": []}),
        ("Deployment", ["spec", "template", "spec", "runAsNonRoot"], True),
        ("Deployment", ["spec", "replicas"], "1"),
    ],
)
def test_a_wrong_field_or_value_is_reported(kind: str, path: list[Any], value: object) -> None:
    tree = copy.deepcopy(one("base", kind))
    place: Any = tree
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert problems(tree) != []


def test_a_strict_schema_refuses_unknown_fields_unless_the_crd_allows_them() -> None:
    labels = {"additionalProperties": {"type": "string"}}
    crd = {"properties": {"a": {"type": "integer", "description": "words"}, "labels": labels}, "description": "words"}
    made = strict(crd)
    assert "words" not in json.dumps(made)
    validator = jsonschema.Draft202012Validator(made)
    assert validator.is_valid({"a": 1, "labels": {"any": "thing"}})
    assert not validator.is_valid({"b": 1})
    assert not validator.is_valid({"labels": {"any": 1}})
