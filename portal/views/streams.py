"""Answers that take long: each holds a thread, so a process gives only some of its threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeVar

from flask import Flask, current_app

from portal.errors import Unavailable

Part = TypeVar("Part")
_KEY = "portal_streams"


def init_app(app: Flask) -> None:
    """Half of a process's threads may stream; the others answer pages."""
    threads = app.config["PORTAL"].web_threads
    app.extensions[_KEY] = threading.BoundedSemaphore(max(1, threads // 2))


class Stream(Iterator[Part]):
    """An iterator over `parts` that holds one of the process's places until it ends or is closed.

    Raises Unavailable (503) when all places are taken.
    """

    def __init__(self, parts: Iterator[Part]):
        self._is_open = False
        self._places: threading.BoundedSemaphore = current_app.extensions[_KEY]
        if not self._places.acquire(blocking=False):
            raise Unavailable("Several long downloads are running. Try again in a minute.")
        self._parts = parts
        self._is_open = True

    def __next__(self) -> Part:
        try:
            return next(self._parts)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the place back; WSGI servers call it when the answer or its reader ends."""
        if self._is_open:
            self._is_open = False
            self._places.release()
            closing = getattr(self._parts, "close", None)
            if closing:
                closing()

    def __del__(self) -> None:
        self.close()
