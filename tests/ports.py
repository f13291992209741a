"""Ports of this machine for servers of tests."""

import random
import socket

PORTS = range(20_000, 32_000)
"""Between those of Ray's workers and those that the kernel gives to a process that asks for any."""


def free_port() -> int:
    """Return a port at which nothing listens, and which no process gets that asks for any port."""
    while True:
        with socket.socket() as listening:
            try:
                listening.bind(("127.0.0.1", port := random.SystemRandom().choice(PORTS)))
            except OSError:
                continue
            return port
