import pytest

from cxr_platform.tracking.mlflow_runs import log_study
from tests.tracking.builders import make_study


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory):
    """A study, logged once, and the id of its run."""
    pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")
    study = make_study(tmp_path_factory.mktemp("images with a space") / "runs" / "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return study, log_study(study)
