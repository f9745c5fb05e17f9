"""Answers that take long: each holds a thread, so a process gives only some of its threads.

Half of them may be downloads and a quarter live tails: the rest answers pages, whatever happens.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeVar

from flask import Flask, current_app

from portal.errors import Unavailable

Part = TypeVar("Part")
DOWNLOAD, TAIL = "download", "tail"
_KEY = "portal_streams"


def init_app(app: Flask) -> None:
    """Set the number of places of each kind; there may be no place for a tail, since whoever gets
    none can ask again and again instead."""
    threads = app.config["PORTAL"].web_threads
    app.extensions[_KEY] = {
        DOWNLOAD: threading.BoundedSemaphore(max(1, threads // 2)),
        TAIL: threading.BoundedSemaphore(threads // 4),
    }


class Stream(Iterator[Part]):
    """An iterator over `parts` that holds one of the process's places of its kind until it ends or
    is closed.

    Raises Unavailable (503) when all places are taken.
    """

    def __init__(self, parts: Iterator[Part], kind: str = DOWNLOAD):
        self._is_open = False
        self._places: threading.BoundedSemaphore = current_app.extensions[_KEY][kind]
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
