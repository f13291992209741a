"""NVIDIA's Multi-Process Service (MPS), with which kernels of several processes run on one GPU at the same time.

Without it the GPU takes turns between the processes. A process uses MPS if the daemon's pipe is where
`CUDA_MPS_PIPE_DIRECTORY` says when it opens the GPU (https://docs.nvidia.com/deploy/mps/).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr_platform.errors import ConfigError, last_line

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
DEFAULT_PIPES = "/tmp/nvidia-mps"
ANSWER_SECONDS = 30.0


def mps_is_running() -> bool:
    """Return True if processes that open a GPU from now on share it through MPS.

    Where the control program is absent, as in a container, the daemon's pipe alone decides.
    """
    if not (Path(os.environ.get(PIPES, DEFAULT_PIPES)) / "control").exists():
        return False
    return shutil.which(CONTROL) is None or _control("get_server_list").returncode == 0


@contextmanager
def mps_daemon() -> Iterator[None]:
    """Run an MPS daemon for the processes that are started within the block, or use the one that is running.

    Raises `ConfigError` if it cannot be started. It needs no other user's rights than this one's.
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
            started = subprocess.run([CONTROL, "-d"], capture_output=True, text=True, timeout=ANSWER_SECONDS)
            if started.returncode:
                raise ConfigError(
                    "Expected NVIDIA's MPS daemon to start.",
                    received=last_line(started.stderr or started.stdout),
                    advice="Leave resources.mps out to train without MPS.",
                )
            try:
                yield
            finally:
                _control("quit")
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _control(command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([CONTROL], input=f"{command}\n", capture_output=True, text=True, timeout=ANSWER_SECONDS)
