import logging
import os

import pytest
import ray
from botocore.exceptions import EndpointConnectionError

from cxr_platform.errors import ConfigError, TrialsFailed
from pipelines.command import run_command


def test_the_function_s_exit_code_is_returned():
    assert run_command(lambda: 3) == 3


def test_an_error_becomes_one_line_and_its_exit_code(capsys):
    def refuse() -> int:
        raise ConfigError("Expected a profile.", received="'x'", advice="Give another.")

    assert run_command(refuse) == 2
    assert capsys.readouterr().err == "Expected a profile. Received: 'x'. Give another.\n"


def test_failed_trials_have_a_code_of_their_own():
    def fail() -> int:
        raise TrialsFailed("2 of 24 trials failed.")

    assert run_command(fail) == 1


def test_ctrl_c_is_130(capsys):
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run_command(interrupt) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_one_line_and_code_2(capsys, tmp_path):
    assert run_command(lambda: len((tmp_path / "absent").read_text())) == 2
    text = capsys.readouterr().err
    assert "absent" in text
    assert "Traceback" not in text


def test_a_store_that_does_not_answer_is_one_line_and_code_2(capsys):
    def ask() -> int:
        raise EndpointConnectionError(endpoint_url="http://store")

    assert run_command(ask) == 2
    text = capsys.readouterr().err
    assert "http://store" in text
    assert "Traceback" not in text


def test_a_defect_shows_its_traceback_and_has_a_code_of_its_own(capsys):
    assert run_command(lambda: 1 // 0) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_what_libraries_read_at_import_is_set_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "")
    monkeypatch.delenv("GX_ANALYTICS_ENABLED")
    assert run_command(lambda: 0) == 0
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"


def test_tensorflow_s_advice_on_tracing_is_not_the_users_business():
    run_command(lambda: 0)
    assert not logging.getLogger("tensorflow").isEnabledFor(logging.WARNING)


def test_ray_s_mode_is_left_alone_once_ray_is_imported(monkeypatch: pytest.MonkeyPatch):
    assert ray.__version__
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert run_command(lambda: 0) == 0
    assert "RAY_AUTH_MODE" not in os.environ
