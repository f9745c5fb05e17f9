"""Courtesy to others who wait for this process: a request says whose it is, and takes a breath
between two parts of what takes long, in which others go first.

What a breath is, is for who runs the thread to say (portal.front.accounts); elsewhere it is a rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

NOBODYS = ""
"""For whom a thread works that was shown what is no key and no sign-in, or is none any more."""

STRETCH = 128 * 1024
"""Bytes of a large body, some milliseconds of work."""
REST_SECONDS = 2.0

_thread = threading.local()
"""What each thread does, whichever application has begun it."""


class Work(Protocol):
    """What a thread does for somebody."""

    whose: str | None

    def breathe(self, at_least: float = 0.0) -> float: ...
    def count(self, seconds: float) -> None: ...
    def asks(self) -> None: ...
    def is_answered(self) -> None: ...


def do(work: Work | None) -> None:
    """Say what this thread does from now on."""
    _thread.work = work


def breathe(at_least: float = 0.0) -> float:
    """Let others go first, where there are any, and in any case for so many seconds; for how many
    it was. To be called where nothing is held that others wait for, and in place of time.sleep():
    what passes between two breaths counts as work."""
    work: Work | None = getattr(_thread, "work", None)
    if work is not None:
        return work.breathe(at_least)
    if at_least:
        time.sleep(at_least)
    return at_least


class Pace:
    """That of a large body, which is read and checked in many small parts: a breath after each
    STRETCH of it, but for REST_SECONDS at most in all, since others wait for its place. `before` is
    called before each, to let go what nobody is to rest with."""

    def __init__(self, before: Callable[[], object] | None = None):
        self._before, self._since, self._left = before, 0, REST_SECONDS

    def done(self, amount: int) -> None:
        """So many bytes or characters more have been read."""
        self._since += amount
        if self._since >= STRETCH and self._left > 0:
            self._since = 0
            if self._before is not None:
                self._before()
            self._left -= breathe()


def count(seconds: float) -> None:
    """Count what another process has done for this thread's work."""
    work: Work | None = getattr(_thread, "work", None)
    if work is not None:
        work.count(seconds)


def asks() -> None:
    """Say that another machine, or processes of nobody's, work for this thread from here on."""
    work: Work | None = getattr(_thread, "work", None)
    if work is not None:
        work.asks()


def is_answered() -> None:
    """Say that they do no more."""
    work: Work | None = getattr(_thread, "work", None)
    if work is not None:
        work.is_answered()


def is_for(owner: str) -> None:
    """Say for whom this thread works, such as a merchant."""
    work: Work | None = getattr(_thread, "work", None)
    if work is not None:
        work.whose = owner
