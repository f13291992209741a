"""Where a study is logged, with the real MLflow client, and a server that is not there."""

import importlib.util
import sys

import pytest

from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.tracking.log import log_study
from cxr_platform.tracking.place import tracking_uri
from tests.tracking.builders import make_study

pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")


def test_an_address_goes_before_the_environment_and_that_before_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")

    assert tracking_uri(tmp_path / "runs" / "test") == "http://tracking.example"
    assert tracking_uri(tmp_path / "runs" / "test", str(tmp_path / "elsewhere")) == (tmp_path / "elsewhere").as_uri()
    assert tracking_uri(tmp_path, "sqlite:///a.db") == "sqlite:///a.db"


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)

    with pytest.raises(ConfigError, match="mlflow-skinny"):
        log_study(make_study(tmp_path / "test"))


def test_a_place_that_cannot_be_written_is_said_to_be(tmp_path):
    study = make_study(tmp_path / "test")
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(StorageError, match=r"log to MLflow at file:.*The study itself is untouched"):
        log_study(study, str(tmp_path / "file"))


def test_a_server_that_is_not_there_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(StorageError, match=r"at http://127\.0\.0\.1:9"):
        log_study(make_study(tmp_path / "test"), "http://127.0.0.1:9")


def test_a_database_without_its_library_is_said_to_need_it(tmp_path):
    if importlib.util.find_spec("sqlalchemy"):
        pytest.skip("SQLAlchemy is installed: a database is usable")

    with pytest.raises(StorageError, match="sqlalchemy"):
        log_study(make_study(tmp_path / "test"), f"sqlite:///{tmp_path / 'a.db'}")
