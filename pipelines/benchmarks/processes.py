"""Processes that a benchmark starts and watches: their memory, the time of the processors, and the GPU's load.

Memory and times are those that Linux states under /proc.
"""

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cxr_platform.errors import StudyError

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 1.0
MEMORY_SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Usage:
    """Wall seconds of a command, and samples (seconds since its start, processor seconds used so far)."""

    seconds: float
    samples: Sequence[tuple[float, float]] = field(repr=False)

    def idle_share(self, cores: int, begin: float = 0.0, end: float | None = None) -> float:
        """Return the share of `cores` that the command left idle from `begin` to `end`, by default to its end."""
        first, last = self._at(begin), self._at(self.seconds if end is None else end)
        available = cores * (last[0] - first[0])
        return max(0.0, 1.0 - (last[1] - first[1]) / available) if available > 0 else 0.0

    def _at(self, seconds: float) -> tuple[float, float]:
        return min(self.samples, key=lambda sample: abs(sample[0] - seconds))


def run_watched(command: Sequence[str], sample: float = SAMPLE_SECONDS, quiet: bool = True) -> Usage:
    """Run `python -m command`, and return what it used; raise `StudyError` with its last line if it fails.

    The processes that it starts, Ray's among them, count as long as they descend from it.
    """
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    ) as process:
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        reader.start()
        samples, used = [(0.0, 0.0)], dict[int, float]()
        while process.poll() is None:
            for pid in (process.pid, *descendants(process.pid)):
                used[pid] = max(used.get(pid, 0.0), processor_seconds(pid))
            samples.append((time.monotonic() - began, sum(used.values())))
            time.sleep(sample)
        seconds = time.monotonic() - began
        reader.join()
    if process.returncode:
        last = lines[-1].decode(errors="replace").strip() if lines else f"exit code {process.returncode}"
        raise StudyError(f"Expected `python -m {' '.join(command)}` to succeed.", received=last)
    return Usage(seconds, samples)


@dataclass(frozen=True)
class Peaks:
    """Peak memory in MiB of a process and of the largest of its descendants, and GiB that all of them read and wrote.

    Memory is resident memory, shared memory and mapped files included (VmHWM); bytes are those that reached the disk.
    """

    own_mib: float
    largest_other_mib: float
    read_gib: float
    written_gib: float


def watch(process: "subprocess.Popen[bytes]", sample: float = MEMORY_SAMPLE_SECONDS) -> Peaks:
    """Wait for a process to end, and return the peaks of it and its descendants."""
    peaks, transfers = dict[int, float](), dict[int, tuple[int, int]]()
    while process.poll() is None:
        for pid in (process.pid, *descendants(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0.0), peak_mib(pid))
            transfers[pid] = disk_bytes(pid) or transfers.get(pid, (0, 0))
        time.sleep(sample)
    read, written = (sum(both[place] for both in transfers.values()) / 2**30 for place in (0, 1))
    others = max((peak for pid, peak in peaks.items() if pid != process.pid), default=0.0)
    return Peaks(peaks.get(process.pid, 0.0), others, read, written)


def descendants(pid: int) -> Iterator[int]:
    """Yield the process ids of all processes that descend from `pid`."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(_status(int(entry.name))[1])
        except (OSError, IndexError):  # it has ended meanwhile
            continue
    for child in parents:
        ancestor = child
        while ancestor in parents and ancestor != pid:
            ancestor = parents[ancestor]
        if ancestor == pid and child != pid:
            yield child


def processor_seconds(pid: int) -> float:
    """Return the processor seconds of all threads of a process; 0 if it has ended."""
    try:
        return sum(map(int, _status(pid)[11:13])) / TICKS
    except (OSError, IndexError):
        return 0.0


def peak_mib(pid: int) -> float:
    """Return VmHWM of a process in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def disk_bytes(pid: int) -> tuple[int, int] | None:
    """Return the bytes that a process has read from and written to the disk; `None` if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = dict(line.split(": ") for line in lines)
    return int(values["read_bytes"]), int(values["write_bytes"])


def _status(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, the state; the second is a name and may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


@contextmanager
def watched_gpu() -> Iterator[Callable[[], float | None]]:
    """Yield a function that returns the mean share of time, 0 to 1, in which the GPU was busy since the start.

    As `nvidia-smi` states it, every second; `None` without a GPU.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield lambda: None
        return
    command = [tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-l", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        shares: list[float] = []

        def read() -> None:
            shares.extend(int(line) / 100 for line in process.stdout or () if line.strip().isdigit())

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield lambda: statistics.fmean(shares) if shares else None
        finally:
            process.terminate()
            reader.join()
