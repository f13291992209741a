"""Another program with the limits of the process that decodes DICOM, because that does nothing but decode."""

import ctypes
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cxr_platform
from cxr_platform.serving import confinement
from cxr_platform.serving.confinement import CREATE_RULESET, allow_seconds, readable_paths
from tests.conftest import REPOSITORY

LANDLOCK = int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, 0, 1)) if sys.platform == "linux" else 0
SCRIPT = """
import os, pathlib, socket, subprocess, sys
from cxr_platform.serving.confinement import confine
assert len(os.listdir("/proc/self/task")) == 1
version = confine(2**30)
def write():
    file = os.open("new", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"x")
def abstract():
    socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[1])
attempts = {
    "write": write, "remove": lambda: os.remove("kept"), "rename": lambda: os.rename("kept", "k"),
    "truncate": lambda: os.truncate("kept", 0), "run": lambda: subprocess.run(["/bin/true"]),
    "read": lambda: open("kept").read(), "list": lambda: os.listdir("."), "keys": lambda: open(sys.argv[2]).read(),
    "environment": lambda: open(f"/proc/{os.getppid()}/environ").read(),
    "connect": lambda: socket.create_connection(("127.0.0.1", 9), 1), "abstract": abstract,
    "python": lambda: (__import__("xmlrpc.client"), __import__("cxr_platform.serving.routes")),
    "library": lambda: open("/proc/self/status").read(),
}
for name, attempt in attempts.items():
    try:
        attempt()
        print(name, "worked")
    except OSError as error:
        print(name, type(error).__name__)
print("version", version)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a confined program can do: "worked", or the type of the error."""
    folder = tmp_path_factory.mktemp("confined")
    (folder / "kept").write_text("kept", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(REPOSITORY / "pyproject.toml")]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{folder}")
        listening.listen()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def landlock(version: int) -> Callable[..., pytest.MarkDecorator]:
    return pytest.mark.skipif(version > LANDLOCK, reason=f"the kernel has Landlock {LANDLOCK}, not {version}")


def test_no_file_is_written_on_any_kernel(results: dict[str, str]) -> None:
    assert results["write"] != "worked"
    assert results["version"] == str(max(LANDLOCK, 0))


@landlock(1)
@pytest.mark.parametrize("attempt", ["remove", "rename", "run", "read", "list", "keys", "environment"])
def test_files_are_not_changed_or_read_and_programs_not_started(results: dict[str, str], attempt: str) -> None:
    assert results[attempt] == "PermissionError"


@pytest.mark.parametrize("attempt", ["python", "library"])
def test_what_python_and_its_libraries_need_is_readable(results: dict[str, str], attempt: str) -> None:
    assert results[attempt] == "worked"


@landlock(3)
def test_files_are_not_truncated(results: dict[str, str]) -> None:
    assert results["truncate"] == "PermissionError"


@landlock(4)
def test_tcp_is_not_used(results: dict[str, str]) -> None:
    assert results["connect"] == "PermissionError", "not even a closed port answers"


@landlock(6)
def test_abstract_sockets_of_others_are_not_used(results: dict[str, str]) -> None:
    assert results["abstract"] == "PermissionError"


def test_of_a_checkout_only_the_package_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(cxr_platform.__file__).parent
    (tmp_path / "some-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", ["", "/", str(package.parent), str(tmp_path)])
    paths = set(readable_paths())
    assert {str(package), str(tmp_path), sys.prefix} <= paths
    assert not {"", "/", str(package.parent)} & paths


def test_a_finite_limit_of_processor_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for hard, expected in ((resource.RLIM_INFINITY, None), (7, (7, 7))):
        limits: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _, hard=hard: (hard, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda _, limit, to=limits: to.append(limit))
        allow_seconds(10**6)
        (limit,) = limits
        assert limit == expected or (expected is None and limit[1] == resource.RLIM_INFINITY)


def test_a_kernel_without_landlock_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLandlock:
        def __init__(self, _: None) -> None:
            pass

        def syscall(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(ctypes, "CDLL", NoLandlock)
    assert confinement._restrict() == 0
