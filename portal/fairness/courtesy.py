"""Courtesy to others who wait for this process: a request says whose it is, and takes a breath
between two parts of what takes long, in which others go first.

What a breath is, is for who runs the thread to say (portal.front.accounts); elsewhere it is a rest.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

NOBODYS = ""
"""For whom a thread works that was shown what is no key and no sign-in, or is none any more."""

_thread = threading.local()


class Work(Protocol):
    """What a thread does for somebody."""

    whose: str | None

    def breathe(self, at_least: float = 0.0) -> float: ...
    def count(self, seconds: float) -> None: ...


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


def count(seconds: float) -> None:
    """Count what another process has done for this thread's work."""
    work: Work | None = getattr(_thread, "work", None)
    if work is not None:
        work.count(seconds)


def is_for(owner: str) -> None:
    """Say for whom this thread works, such as a merchant."""
    work: Work | None = getattr(_thread, "work", None)
    if work is not None:
        work.whose = owner
