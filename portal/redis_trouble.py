"""What went wrong with Redis in this process, and whether it is left alone for that.

What is asked of it after a commit raises nothing, whatever comes: the event is stored.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from portal.journal.seldom import Seldom
from portal.redis_replies import UNREADABLE

TROUBLE = (RedisError, OSError, *UNREADABLE)
"""What asking Redis may raise."""
QUIET_SECONDS = 2.0
"""How long a process leaves Redis alone after it did not answer, so that a hung one costs one
request its timeout and not all of them."""
SLOW_SECONDS = 0.1
"""Who is answered waits for no Redis that takes longer for one thing."""
LATEST_SECONDS = 60.0
"""How long trouble is told of to those who ask for it."""

_WORDS = {
    AuthenticationError: "it refuses the password",
    NoPermissionError: "it forbids a command",
    OutOfMemoryError: "it is full",
    ReadOnlyError: "it cannot be written to",
    TimeoutError: "it does not answer in time",
    ConnectionError: "it cannot be reached or read",
    ResponseError: "it refuses a command",
}
_seldom = Seldom(logging.getLogger(__name__), 30)


class RedisTrouble:
    """What one process has met with."""

    def __init__(self) -> None:
        self.is_slow = False
        """Whether Redis was slow when it was asked last."""
        self._quiet_until = 0.0
        self._latest = float("-inf"), ""

    def note(self, error: BaseException, then: str) -> None:
        """Say what went wrong, seldom, and what comes of it."""
        self._latest = time.monotonic(), in_a_word(error)
        if isinstance(error, RedisError | OSError):
            what = str(error) or type(error).__name__
        else:
            what = f"its answer cannot be read: {type(error).__name__}: {error}"
        _seldom.warn((type(error), then), f"Redis does not serve ({what[:200]!a}); {then}.")

    def leave_alone(self, error: BaseException, then: str) -> None:
        """The same, and ask nothing that can be left for QUIET_SECONDS."""
        self.note(error, then)
        self._quiet_until = time.monotonic() + QUIET_SECONDS

    @property
    def is_left_alone(self) -> bool:
        """Whether Redis did not answer just now."""
        return time.monotonic() < self._quiet_until

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Note whether Redis is slow at what is asked within."""
        started = time.monotonic()
        yield
        took = time.monotonic() - started
        self.is_slow = took > SLOW_SECONDS
        if self.is_slow:
            _seldom.warn("slow", f"Redis takes {took:.1f} s for an answer; nobody waits for it.")

    @property
    def latest(self) -> str:
        """What was the matter lately (in_a_word); empty when nothing was."""
        at, what = self._latest
        return what if time.monotonic() - at < LATEST_SECONDS else ""


class Beside:
    """Does something in a thread of its own, for all that was given to it meanwhile at once."""

    def __init__(self) -> None:
        self._waiting: set[int] = set()
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, numbers: Iterable[int], call: Callable[[list[int]], None]) -> None:
        """Do it soon for these too."""
        with self._mutex:
            self._waiting |= set(numbers)
            # A fork leaves the thread behind.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work, args=(call,), name="beside", daemon=True
                )
                self._thread.start()

    def _work(self, call: Callable[[list[int]], None]) -> None:
        while True:
            with self._mutex:
                numbers, self._waiting = sorted(self._waiting), set()
                if not numbers:
                    self._thread = None
                    return
            call(numbers)


def in_a_word(error: BaseException) -> str:
    """What is the matter, without anything that the server said or that leads to it."""
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words
    return "its answers cannot be read"
