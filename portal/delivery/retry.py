"""When to try again. Pure: the moment and the dice are arguments."""

from __future__ import annotations

from calendar import timegm
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_SECONDS = 24 * 3_600
JITTER = 0.1
SLOW_DOWN = frozenset({429, 502, 503, 504})
IN_TROUBLE = frozenset(
    {
        "connect_failed",
        "connect_timeout",
        "connection_refused",
        "connection_reset",
        "empty_answer",
        "timeout",
    }
)
"""Errors of a receiver that may have too much to do."""
GONE = 410
UNAUTHORIZED = 401

_SECOND = 1_000_000


def next_attempt_at(
    schedule: Sequence[int],
    step: int,
    moment: int,
    *,
    retry_after_seconds: int | None = None,
    dice: float = 0.5,
) -> int | None:
    """When the attempt after number `step` (0 is the first) is due, in Unix µs; None when the
    schedule is at its end.

    `schedule` holds the delay before each attempt in seconds. `dice` in [0, 1) spreads the
    delay by ±10 %. A `Retry-After` lengthens the delay, never shortens it.
    """
    if step + 1 >= len(schedule):
        return None
    delay = schedule[step + 1] * (1 + JITTER * (2 * dice - 1))
    if retry_after_seconds is not None:
        delay = max(delay, retry_after_seconds * (1 + JITTER * dice))
    return moment + int(delay * _SECOND)


def retry_after(values: Sequence[str], moment: int) -> int | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110 §10.2.3), from 0 to 24 h.

    `values` holds every such header; the longest wish counts, junk counts as no wish.
    `moment` is now in Unix µs, to turn a date into a delay.
    """
    wishes = [wish for value in values if (wish := _one(value.strip(), moment)) is not None]
    return min(max(wishes), MAX_RETRY_AFTER_SECONDS) if wishes else None


def _one(value: str, moment: int) -> int | None:
    if value.isascii() and value.isdigit():
        return int(value[:12])
    try:
        # Each form of an HTTP date is in UTC, also the one that does not say it (5.6.7).
        date = timegm(parsedate_to_datetime(value).utctimetuple())
        return max(0, int(date - moment / _SECOND))
    except (ValueError, TypeError, OverflowError):
        return None
