"""Ports of this machine for servers of tests."""

import random
import socket
from contextlib import suppress

PORTS = iter(random.SystemRandom().sample(range(20_000, 32_000), 12_000))
"""Between those of Ray's workers and those that the kernel gives to a process that asks for any."""


def free_port() -> int:
    """Return a port at which nothing listens, each once; another process that asks for this very port may take it."""
    for port in PORTS:
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
