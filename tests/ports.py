"""Ports of this machine for servers of tests."""

import socket


def free_port() -> int:
    """Return a port at which nothing listens; another process may take it before the caller does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
