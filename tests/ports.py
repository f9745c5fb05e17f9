"""Ports for servers of a test's own: tests run side by side, so none has a number of its own."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
