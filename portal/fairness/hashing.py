"""Turns for making hashes of passwords, which cost by design: tens of milliseconds of every
processor, and 64 MiB. A process makes one at a time, few wait for their turn, and each is counted
to whoever asked for it. So who tries passwords over many connections at once takes neither the
processors, nor the memory, nor the threads from those who are signed in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from portal.errors import TooManyRequests
from portal.fairness import courtesy

WAITING = 2
"""How many wait for their turn; each holds a thread, which others need for pages."""
PATIENCE_SECONDS = 5.0
RETRY_SECONDS = 5
BUSY = "Many passwords are being checked at this moment. Try again in a few seconds."

_turn = threading.Lock()
_places = threading.BoundedSemaphore(1 + WAITING)


@contextmanager
def own_turn() -> Iterator[None]:
    """A turn to make one hash. Raises TooManyRequests where it does not come."""
    if not _places.acquire(blocking=False):
        raise TooManyRequests(BUSY, RETRY_SECONDS)
    try:
        if not _turn.acquire(timeout=PATIENCE_SECONDS):
            raise TooManyRequests(BUSY, RETRY_SECONDS)
        began, used = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            # Threads of the hash's own make it, whose time is not that of this one. On a busy
            # machine most of what passes is their wait for processors.
            courtesy.count(min(time.monotonic() - began, time.process_time() - used))
            _turn.release()
    finally:
        _places.release()
