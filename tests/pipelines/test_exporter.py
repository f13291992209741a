import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pipelines.exporter import main
from tests.conftest import REPOSITORY


def test_the_registry_is_exported_until_sigterm(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pipelines.exporter", "--registry", str(tmp_path / "registry"), "--port", "0"]
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split(" at ")[1].split(". Stop with")[0]
        with urllib.request.urlopen(url) as answer:
            assert b"cxr_registry_readable 1.0" in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 0


def test_an_address_of_another_machine_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "192.0.2.77"]) == 2
    assert "Expected to listen on 192.0.2.77:9810" in capsys.readouterr().err
