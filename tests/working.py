"""Work that a test has something do, in place of a wait."""

from __future__ import annotations

import time


def work(seconds: float) -> None:
    """Keep this thread's processor busy for so many seconds of its own time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
