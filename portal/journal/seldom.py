"""A log in which the same line stands seldom, with how often it was meant."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DEFECT_SECONDS = 60.0
"""How often the same defect has its traceback in the log."""


@dataclass
class _Said:
    at: float
    message: str
    """As it came last: one key may have several causes."""
    more: int = 0


class Seldom:
    """Says a thing at once, and then at most every so many seconds, each time with how often it
    came meanwhile; what came last is not kept back for longer than that. A module has one as it has
    its logger: how often a line stands in the log is the process's, whichever application says it.
    """

    def __init__(self, log: logging.Logger, seconds: float):
        self._log = log
        self._seconds = seconds
        self._said: dict[object, _Said] = {}
        self._mutex = threading.Lock()

    def warn(self, key: object, message: str, *, exc_info: Any = None) -> bool:
        """Say something, which is the same as before where its key is; with a traceback where it
        stands for the first time in so many seconds. Whether it was said now."""
        with self._mutex:
            said = self._said.get(key)
            # A fork leaves the timer behind that would have ended it.
            if said is not None and time.monotonic() - said.at < 2 * self._seconds:
                said.more += 1
                said.message = message
                return False
            self._said[key] = _Said(time.monotonic(), message)
        self._log.log(logging.ERROR if exc_info else logging.WARNING, message, exc_info=exc_info)
        self._later(lambda: self._tell_more(key))
        return True

    def _tell_more(self, key: object) -> None:
        with self._mutex:
            said = self._said.pop(key, None)
            if said is None or not said.more:
                return
            self._said[key] = _Said(time.monotonic(), said.message)
        self._log.warning("%d more in the last %g s: %s", said.more, self._seconds, said.message)
        self._later(lambda: self._tell_more(key))

    def _later(self, then: Callable[[], None]) -> None:
        timer = threading.Timer(self._seconds, then)
        timer.daemon = True
        timer.start()
