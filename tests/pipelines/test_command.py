import logging
import os

import pytest
import ray
from botocore.exceptions import EndpointConnectionError

from cxr_platform.errors import ConfigError, TrialsFailed
from pipelines.command import run_command


def test_the_exit_code_of_the_function_is_returned():
    assert run_command(lambda: 3) == 3


def test_an_error_is_one_line_and_its_exit_code(capsys):
    def refuse() -> int:
        raise ConfigError("Expected a profile.", received="'x'", advice="Give another.")

    assert run_command(refuse) == 2
    assert capsys.readouterr().err == "Expected a profile. Received: 'x'. Give another.\n"


def test_failed_trials_are_exit_code_1():
    def fail() -> int:
        raise TrialsFailed("2 of 24 trials failed.")

    assert run_command(fail) == 1


def test_ctrl_c_is_exit_code_130(capsys):
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run_command(interrupt) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_an_unreadable_file_is_one_line_and_exit_code_2(capsys, tmp_path):
    assert run_command(lambda: len((tmp_path / "absent").read_text())) == 2
    text = capsys.readouterr().err
    assert "absent" in text
    assert "Traceback" not in text


def test_an_unreachable_store_is_one_line_and_exit_code_2(capsys):
    def ask() -> int:
        raise EndpointConnectionError(endpoint_url="http://store")

    assert run_command(ask) == 2
    text = capsys.readouterr().err
    assert "http://store" in text
    assert "Traceback" not in text


def test_a_defect_prints_its_traceback_and_is_exit_code_70(capsys):
    assert run_command(lambda: 1 // 0) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_variables_are_set_unless_the_user_has_set_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "")
    monkeypatch.delenv("GX_ANALYTICS_ENABLED")
    assert run_command(lambda: 0) == 0
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"


def test_warnings_of_tensorflow_are_not_shown():
    run_command(lambda: 0)
    assert not logging.getLogger("tensorflow").isEnabledFor(logging.WARNING)


def test_variables_of_ray_are_not_changed_after_it_is_imported(monkeypatch: pytest.MonkeyPatch):
    assert ray.__version__
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert run_command(lambda: 0) == 0
    assert "RAY_AUTH_MODE" not in os.environ
