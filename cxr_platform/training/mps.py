"""NVIDIA's Multi-Process Service (MPS), with which kernels of several processes run on one GPU at the same time.

Without it the GPU takes turns between the processes. A process uses MPS if the daemon's pipe is where
`CUDA_MPS_PIPE_DIRECTORY` says when it opens the GPU (https://docs.nvidia.com/deploy/mps/).
"""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from cxr_platform.config import ResourcesConfig
from cxr_platform.errors import ConfigError, last_line

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
DEFAULT_PIPES = "/tmp/nvidia-mps"
ANSWER_SECONDS = 30.0
QUIT = "quit -t 5"
"""After 5 s the daemon ends the processes that still use a GPU; without a limit it waits for them."""

log = logging.getLogger(__name__)


def mps_for(resources: ResourcesConfig, cluster: str | None = None) -> AbstractContextManager[None]:
    """Return the block in which the processes of a study on this machine start, with MPS if the profile says so.

    Raises `ConfigError` for a `cluster`, on whose nodes it has to be started.
    """
    if resources.mps and cluster and cluster != "local":
        raise ConfigError(
            "Expected resources.mps = false on a Ray cluster.",
            received=f"true, and a cluster at {cluster}",
            advice="Start nvidia-cuda-mps-control -d on its nodes before Ray: trials then use it.",
        )
    return mps_daemon() if resources.mps else nullcontext()


def mps_is_running() -> bool:
    """Return True if processes that open a GPU from now on share it through MPS.

    Where the control program is absent, as in a container, the daemon's pipe alone decides.
    """
    if not (Path(os.environ.get(PIPES, DEFAULT_PIPES)) / "control").exists():
        return False
    return shutil.which(CONTROL) is None or _failure("get_server_list") is None


@contextmanager
def mps_daemon() -> Iterator[None]:
    """Run an MPS daemon for the processes that are started within the block, or use the one that is running.

    Raises `ConfigError` if it cannot be started. It runs as this user.
    """
    if mps_is_running():
        yield
        return
    if shutil.which(CONTROL) is None:
        raise ConfigError(
            f"Expected {CONTROL} on the PATH for resources.mps = true.",
            received="no such program",
            advice="It comes with NVIDIA's driver. Leave resources.mps out to train without MPS.",
        )
    before = {name: os.environ.get(name) for name in (PIPES, LOGS)}
    with tempfile.TemporaryDirectory(prefix="cxr-mps-") as folder:
        os.environ |= {PIPES: folder, LOGS: folder}
        try:
            failure = _failure("", "-d")
            if failure is not None:
                raise ConfigError(
                    "Expected NVIDIA's MPS daemon to start.",
                    received=failure,
                    advice="Leave resources.mps out to train without MPS.",
                )
            try:
                yield
            finally:
                failure = _failure(QUIT)
                if failure is not None:
                    log.warning("NVIDIA's MPS daemon did not stop: %s", failure)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _failure(command: str, *options: str) -> str | None:
    """Give `command` to the control program. Return why it failed, or `None` if it succeeded."""
    try:
        done = subprocess.run(
            [CONTROL, *options], input=f"{command}\n", capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return last_line(error)
    return last_line(done.stderr or done.stdout) if done.returncode else None
