"""Write the schemas of KubeRay's kinds beside this file, out of a checkout of KubeRay at the version in README.md.

    python -m tests.infra.schemas.make PATH/OF/kuberay

Descriptions are left out (nine tenths of the files), and objects whose fields are listed accept no others, as the API
server's strict field validation has it; Kubernetes itself would only drop what it does not know.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml

KINDS = ("rayclusters", "rayjobs", "rayservices")
FOLDER = Path(__file__).parent


def strict(schema: Any) -> Any:
    """An OpenAPI schema of a CRD as a JSON schema without descriptions that refuses unknown fields."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"], **{key: schema[key] for key in ("pattern",) if key in schema}}
    kept = {key: value for key, value in schema.items() if key not in ("description", "properties", "default")}
    kept = {key: strict(value) for key, value in kept.items() if not key.startswith("x-kubernetes-")}
    if "properties" in schema:
        kept["properties"] = {name: strict(field) for name, field in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept.setdefault("additionalProperties", False)
    return kept


def schema_of(crd: dict[str, Any], version: str = "v1") -> dict[str, Any]:
    """The schema of one served version; `metadata` is the API server's own and accepts anything."""
    served = next(each for each in crd["spec"]["versions"] if each["name"] == version)
    schema: dict[str, Any] = strict(served["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def main(checkout: Path) -> None:
    """Read the CRDs of `checkout` and write KIND.json.gz for each."""
    for kind in KINDS:
        text = (checkout / f"ray-operator/config/crd/bases/ray.io_{kind}.yaml").read_text(encoding="utf-8")
        schema = json.dumps(schema_of(yaml.safe_load(text)), sort_keys=True, separators=(",", ":"))
        (FOLDER / f"{kind}.json.gz").write_bytes(gzip.compress(schema.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
