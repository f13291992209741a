"""Registering a version of the registry with the real MLflow client, in a folder."""

from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError, RegistryError
from cxr_platform.registry.promotion import promote
from tests.registry.builders import make_registry

mlflow = pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")

from cxr_platform.tracking.mlflow_models import PLACE_TAG, SHA_TAG, VERSION_TAG, register_version  # noqa: E402
from cxr_platform.tracking.mlflow_runs import mlflow_client, tracking_uri  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*[Ff]ile.?[Ss]tore.*", "ignore:.*filesystem.*")


def model_versions(place: Path) -> dict[str, dict[str, str]]:
    with mlflow_client(tracking_uri(place, str(place))) as client:
        return {str(each.version): dict(each.tags) for each in client.search_model_versions("name = 'screening'")}


def test_the_champion_is_a_model_version_with_its_hash_and_the_alias(tmp_path: Path) -> None:
    registry, place = make_registry(tmp_path / "registry", 80.0, 81.0), tmp_path / "mlflow"
    promote(registry, "v1")
    messages: list[str] = []

    number = register_version(registry, "champion", "screening", str(place), on_message=messages.append)

    tags = model_versions(place)[number]
    assert tags[VERSION_TAG] == "v1"
    assert len(tags[SHA_TAG]) == 64
    assert "alias champion" in messages[0]
    with mlflow_client(tracking_uri(place, str(place))) as client:
        made = client.get_model_version("screening", number)
        # MLflow's server takes no other source than an artifact of the run
        assert made.source == f"runs:/{made.run_id}/bundle"
        names = {Path(file.path).name for file in client.list_artifacts(made.run_id, "bundle")}
    assert names == {"bundle.json", "MODEL_CARD.md"}
    with mlflow_client(tracking_uri(place, str(place))) as client:
        assert str(client.get_model_version_by_alias("screening", "champion").version) == number


def test_a_version_is_registered_once_and_the_alias_follows_the_champion(tmp_path: Path) -> None:
    registry, place = make_registry(tmp_path / "registry", 80.0, 81.0), tmp_path / "mlflow"
    promote(registry, "v1")
    first = register_version(registry, "v1", "screening", str(place))
    second = register_version(registry, "v2", "screening", str(place))
    promote(registry, "v2")

    assert register_version(registry, "champion", "screening", str(place)) == second != first
    assert set(model_versions(place)) == {first, second}
    with mlflow_client(tracking_uri(place, str(place))) as client:
        assert str(client.get_model_version_by_alias("screening", "champion").version) == second


def test_an_unknown_version_is_an_error(tmp_path: Path) -> None:
    registry = make_registry(tmp_path / "registry", 80.0)
    with pytest.raises(RegistryError, match="v9"):
        register_version(registry, "v9", "screening", str(tmp_path / "mlflow"))


def test_the_uri_of_a_registry_that_was_copied_here_is_the_source(tmp_path: Path) -> None:
    registry, place = make_registry(tmp_path / "registry", 80.0), tmp_path / "mlflow"
    number = register_version(registry, "v1", "screening", str(place), source="s3://bucket/registry")
    with mlflow_client(tracking_uri(place, str(place))) as client:
        assert client.get_model_version("screening", number).tags[PLACE_TAG] == "s3://bucket/registry/v1"
        assert not client.get_registered_model("screening").aliases, "v1 is not the champion"


@pytest.mark.parametrize("name", ["", "a'b", "a/b", " a", "modèle"])
def test_a_name_that_mlflow_does_not_take_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Expected a model's name"):
        register_version(make_registry(tmp_path / "registry", 80.0), "v1", name, str(tmp_path / "mlflow"))
