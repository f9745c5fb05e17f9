"""Ports for servers of a test's own: tests run side by side, so none has a number of its own."""

from __future__ import annotations

import random
import socket

_FIRST, _LAST = 10_240, 32_767
"""Below those that the system gives to whoever asks for any (32768 up): a server that a test kills
and starts again must not find its port with a receiver of the test beside it, or its sender there.
"""
_taken: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody listens on now, given once."""
    while True:
        port = random.randint(_FIRST, _LAST)
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port
