"""A version of the registry as a model version in MLflow's model registry. Needs the extra `tracking`.

Only descriptions go to MLflow: bundle.json and the model card are artifacts of a run, the source of the model version,
as MLflow's server takes no local path. Tags have version, strategy, accuracy, the SHA-256 of bundle.json and the place
of the registry. The files that are served stay in that registry, where servers check them.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.errors import BundleError, ConfigError
from cxr_platform.registry.bundle import DESCRIPTION, MODEL_CARD, Bundle
from cxr_platform.registry.checksums import file_checksum
from cxr_platform.registry.store import CHAMPION, Registry
from cxr_platform.tracking.mlflow_runs import mlflow_client, open_experiment, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = re.compile(r"[A-Za-z0-9][\w .-]*", re.ASCII)
"""Names of models that may stand in a filter and in a URI of MLflow."""
VERSION_TAG, SHA_TAG, PLACE_TAG = "cxr.version", "cxr.bundle_sha256", "cxr.place"
ARTIFACTS = "bundle"


def register_version(
    registry: Registry,
    version: str,
    name: str,
    uri: str | None = None,
    source: str | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> str:
    """Register `version` of `registry` (or its "champion") as model `name` in MLflow; return MLflow's version number.

    The champion gets the alias `champion`. A bundle that is registered already is not registered again, but the alias
    is moved to it. `source` is the folder or URI of the registry that a tag names, by default its folder. `uri` is the
    folder or server of MLflow, by default as in `log_study`, beside the registry.

    Raise `ConfigError` for a name that MLflow does not take, `RegistryError` for a version that is not there or
    changed, `StorageError` if MLflow does not answer.
    """
    if not NAME.fullmatch(name):
        raise ConfigError("Expected a model's name of letters, digits, spaces, '_', '.' and '-'.", received=repr(name))
    folder, bundle = registry.open(version)
    champion = registry.champion() == bundle.version
    digest = file_checksum(folder / DESCRIPTION, BundleError).sha256
    where = f"{source or registry.root}/{bundle.version}"
    files = (folder / DESCRIPTION, folder / MODEL_CARD)
    place = tracking_uri(registry.root, uri)
    with mlflow_client(place) as client:
        if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
            client.create_registered_model(name, description="Chest X-ray screening. For research, not for diagnosis.")
        versions = client.search_model_versions(f"name = '{name}'")
        known = [each.version for each in versions if each.tags.get(SHA_TAG) == digest]
        number = str(known[0]) if known else _create(client, name, bundle, where, digest, files)
        if champion:
            client.set_registered_model_alias(name, CHAMPION, number)
    action = "is already" if known else "is now"
    alias = ", with the alias champion" if champion else ""
    on_message(f"{bundle.version} {action} version {number} of model {name} in MLflow at {place}{alias}.")
    return number


def _create(client: "MlflowClient", name: str, bundle: Bundle, where: str, digest: str, files: Sequence[Path]) -> str:
    accuracy = bundle.metrics["accuracy_7_class"].value
    tags = {
        VERSION_TAG: bundle.version,
        SHA_TAG: digest,
        PLACE_TAG: where,
        "cxr.strategy": bundle.strategy,
        "cxr.study": bundle.study.name,
        "cxr.synthetic": str(bundle.synthetic).lower(),
        "cxr.accuracy_7_class": "undefined" if accuracy is None else f"{accuracy:.2f}",
        "cxr.sensitivity_target": f"{bundle.operating_point.target_sensitivity:g}",
    }
    run = client.create_run(open_experiment(client), tags=tags, run_name=f"{name} {bundle.version}")
    run_id = str(run.info.run_id)
    for file in files:
        client.log_artifact(run_id, str(file), ARTIFACTS)
    client.set_terminated(run_id, "FINISHED")
    description = f"{bundle.version}, {bundle.strategy}"
    made = client.create_model_version(name, f"runs:/{run_id}/{ARTIFACTS}", run_id, tags=tags, description=description)
    return str(made.version)
