"""What went wrong with Redis in this process, and whether it is left alone for that.

What is asked of it after a commit raises nothing, whatever comes: the event is stored.
"""

from __future__ import annotations

import logging
import time

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
LATEST_SECONDS = 60.0
"""How long trouble is told of to those who ask for it."""

_WORDS = {
    AuthenticationError: "it refuses the password", NoPermissionError: "it forbids a command",
    OutOfMemoryError: "it is full", ReadOnlyError: "it cannot be written to",
    TimeoutError: "it does not answer in time", ConnectionError: "it cannot be reached or read",
    ResponseError: "it refuses a command",
}
_seldom = Seldom(logging.getLogger(__name__), 30)
_quiet_until = 0.0
_latest: tuple[float, str] = (float("-inf"), "")


def note(error: BaseException, then: str) -> None:
    """Say what went wrong, seldom, and what comes of it."""
    global _latest
    _latest = time.monotonic(), in_a_word(error)
    if isinstance(error, RedisError | OSError):
        what = str(error) or type(error).__name__
    else:
        what = f"its answer cannot be read: {type(error).__name__}: {error}"
    _seldom.warn((type(error), then), f"Redis does not serve ({what[:200]!a}); {then}.")


def leave_alone(error: BaseException, then: str) -> None:
    """The same, and ask nothing that can be left for QUIET_SECONDS."""
    global _quiet_until
    note(error, then)
    _quiet_until = time.monotonic() + QUIET_SECONDS


def is_left_alone() -> bool:
    """Whether Redis did not answer this process just now."""
    return time.monotonic() < _quiet_until


def in_a_word(error: BaseException) -> str:
    """What is the matter, without anything that the server said or that leads to it."""
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words
    return "its answers cannot be read"


def latest() -> str:
    """What was the matter lately (in_a_word); empty when nothing was."""
    return _latest[1] if time.monotonic() - _latest[0] < LATEST_SECONDS else ""


def forget() -> None:
    """Ask again at once."""
    global _quiet_until, _latest
    _quiet_until, _latest = 0.0, (float("-inf"), "")
