"""Confine a process that reads hostile files: little memory and priority, no writing, and what Landlock can forbid.

Landlock is part of Linux and needs no rights. What it forbids depends on the version of its interface:

- 1 (Linux 5.13): changing files, starting programs, and reading files other than those of Python and its libraries;
- 3 (6.2): truncating files; 4 (6.7): TCP; 6 (6.12): abstract Unix sockets, and signals to other processes.

UDP and Unix sockets with a path, as of Ray, are forbidden by none: their peers must check who connects.
https://docs.kernel.org/userspace-api/landlock.html
"""

import contextlib
import ctypes
import math
import os
import resource
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

NICE = 10
CREATE_RULESET, ADD_RULE, RESTRICT_SELF, NO_NEW_PRIVILEGES = 444, 445, 446, 38
"""Numbers of system calls, which are the same on all architectures, and of an option of prctl."""

READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILE_RIGHTS, TRUNCATE = (1 << 13) - 1, 1 << 14
LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
SYSTEM_FILES = (
    *("/dev/null", "/dev/urandom", "/dev/zero", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat"),
    *("/proc/sys", "/sys/devices/system", "/sys/fs/cgroup"),
)


def confine(memory_bytes: int) -> int:
    """Confine this process, which has one thread, for good; return the version of Landlock in force, 0 for none."""
    os.nice(NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    return _restrict() if sys.platform == "linux" else 0


def allow_seconds(seconds: int) -> None:
    """Let the process use some more processor time; above it the kernel ends the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (until if most == resource.RLIM_INFINITY else min(until, most), most))


def readable_paths() -> Iterator[str]:
    """Yield the files and folders that Python and its libraries need.

    Of a checkout on `sys.path` that is this package alone: the folder around it may hold keys and images.
    """
    yield from (*LIBRARIES, *SYSTEM_FILES, sys.prefix, sys.base_prefix)
    yield from filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    package = Path(__file__).parents[1]
    for entry in filter(None, sys.path):
        checkout = package.is_relative_to(entry) and not any(Path(entry).glob("*.dist-info"))
        yield str(package) if checkout else entry


def _restrict() -> int:
    libc = ctypes.CDLL(None)
    version: int = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return 0
    handled = [FILE_RIGHTS | (TRUNCATE if version >= 3 else 0)]
    handled += [0b11] if version >= 4 else []  # TCP: bind and connect
    handled += [0b11] if version >= 6 else []  # abstract Unix sockets and signals
    rules = libc.syscall(CREATE_RULESET, struct.pack(f"={len(handled)}Q", *handled), 8 * len(handled), 0)
    if rules < 0:
        return 0
    for path in dict.fromkeys(readable_paths()):
        with contextlib.suppress(OSError):  # what does not exist need not be read
            _allow_reading(libc, rules, path)
    done = libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and libc.syscall(RESTRICT_SELF, rules, 0) == 0
    os.close(rules)
    return version if done else 0


def _allow_reading(libc: ctypes.CDLL, rules: int, path: str) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = READ_FILE | (READ_DIR if Path(path).is_dir() else 0)
        libc.syscall(ADD_RULE, rules, 1, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)
