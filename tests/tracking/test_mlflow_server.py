"""A study and a version of the registry in a real `mlflow server`, through the verbs of the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr_platform.registry.promotion import promote
from pipelines import registry as registry_verb
from pipelines import track as track_verb
from tests.registry.builders import make_registry
from tests.tracking.builders import make_study
from tests.tracking.mlflow_server import mlflow_server

mlflow = pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")
pytest.importorskip("alembic", reason="MLflow's server needs it, of the extra `dev`")

from cxr_platform.tracking.mlflow_models import PLACE_TAG, VERSION_TAG  # noqa: E402
from cxr_platform.tracking.mlflow_runs import EXPERIMENT, PARENT_TAG, mlflow_client  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def test_register_makes_the_champion_a_model_version_of_the_server(server: str, tmp_path: Path) -> None:
    registry = make_registry(tmp_path / "registry", 80.0, 81.0)
    promote(registry, "v1")
    words = [
        "register",
        "champion",
        "--registry",
        str(registry.root),
        "--model",
        "chest X-ray",
        "--tracking-uri",
        server,
    ]

    assert registry_verb.main(words) == 0
    assert registry_verb.main(words) == 0, "a second time nothing is added"

    with mlflow_client(server) as client:
        (made,) = client.search_model_versions("name = 'chest X-ray'")
        alias = client.get_model_version_by_alias("chest X-ray", "champion")
        names = {Path(file.path).name for file in client.list_artifacts(made.run_id, "bundle")}
        copied = client.download_artifacts(made.run_id, "bundle/bundle.json", str(tmp_path))
    assert (made.tags[VERSION_TAG], made.tags[PLACE_TAG]) == ("v1", f"{registry.root}/v1")
    assert alias.version == made.version
    assert names == {"bundle.json", "MODEL_CARD.md"}
    assert Path(copied).read_bytes() == (registry.root / "v1" / "bundle.json").read_bytes()


def test_track_logs_a_study_with_its_trials_and_report_on_the_server(server: str, tmp_path: Path) -> None:
    study = make_study(tmp_path / "runs" / "test")

    assert track_verb.main(["--study", str(study), "--tracking-uri", server]) == 0
    assert track_verb.main(["--study", str(study), "--tracking-uri", server]) == 0, "a second time nothing is logged"

    with mlflow_client(server) as client:
        runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
        (parent,) = (run for run in runs if "cxr.predictions_sha256" in run.data.tags)
        children = [run for run in runs if run.data.tags.get(PARENT_TAG) == parent.info.run_id]
        page = client.download_artifacts(parent.info.run_id, "report/index.html", str(tmp_path))
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 4
    assert parent.data.metrics["strategies/scratch/pooled/accuracy_7_class"] == pytest.approx(90.5)
    assert Path(page).read_text(encoding="utf-8") == "the page"
