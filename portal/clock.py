"""Time: every `*_at` column holds Unix time in whole microseconds, UTC.

Microseconds, because the events of one batch get consecutive moments and so
keep the order in which they were sent.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
END_OF_TIME = 253_402_300_800 * SECOND
"""The year 10000: what a date cannot say."""

NO_MOMENT = (
    "is Unix seconds such as 1763930000, or ISO 8601 with a zone such as 2025-11-23T20:33:20Z."
)
NO_ZONE = "has no zone; add Z or an offset."
"""What senders are told of a field that holds no moment, behind its name."""

_MAX_TEXT = 64
_UNIX = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAP_SECOND = re.compile(r"(?<=T\d\d:\d\d:)60(?=[.,Z+-])")
# An unescaped + of a query string arrives as a space.
_LOST_PLUS = re.compile(r"(T.*) (\d\d:?\d\d)$")


class NoZone(ValueError):
    """A date and time that does not say in which zone."""


def now() -> int:
    """The current moment in Unix microseconds, UTC."""
    return time.time_ns() // 1_000


def to_datetime(moment: int) -> datetime:
    """Unix microseconds as an aware UTC datetime."""
    return datetime.fromtimestamp(moment / SECOND, tz=UTC)


def iso(moment: int) -> str:
    """Unix microseconds as ISO 8601 with a zone, whole seconds: `2025-11-23T20:33:20Z`."""
    return _to_the_second(moment // SECOND) + "Z"


def rfc3339(moment: int) -> str:
    """Unix microseconds as RFC 3339 writes them, with as many digits of the second as it has:
    `2025-11-23T20:33:20Z`, `2025-11-23T20:33:20.5Z`."""
    seconds, rest = divmod(moment, SECOND)
    whole = _to_the_second(seconds)
    return f"{whole}.{rest:06}".rstrip("0") + "Z" if rest else whole + "Z"


@lru_cache(maxsize=1_024)
def _to_the_second(seconds: int) -> str:
    # A batch has thousands of moments in few seconds.
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


def utc(moment: int, precise: bool = False) -> str:
    """Unix microseconds as pages write them: `2025-11-23 20:33:20`; `precise` adds milliseconds."""
    seconds, rest = divmod(moment, SECOND)
    text = _to_the_second(seconds).replace("T", " ")
    return f"{text}.{rest // MILLISECOND:03}" if precise else text


def readable(moment: int) -> str:
    """Unix microseconds for people, with the zone: `2025-11-23 20:33:20 UTC`."""
    return utc(moment) + " UTC"


def from_seconds(seconds: int | float | Decimal) -> int:
    """Unix seconds as Unix microseconds, finer ones cut off: exact, where a product with a
    double would lose the last one."""
    if isinstance(seconds, int):
        return seconds * SECOND
    return math.floor(Decimal(str(seconds)) * SECOND)


def from_digits(text: str) -> int | None:
    """The moment of a text that is Unix seconds, in Unix microseconds; None for another text."""
    return from_seconds(Decimal(text)) if _UNIX.fullmatch(text) else None


def parse_iso(text: str) -> datetime:
    """The date and time that a text names (ISO 8601, RFC 3339), with the zone it gives, if any.

    Small `t` and `z` are read as RFC 3339, 5.6 allows them, and a leap second as the first one
    after it, which has its place in Unix time. Raises ValueError for what is none.
    """
    if len(text) > _MAX_TEXT:
        raise ValueError("too long for a moment")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _spelled_otherwise(text)


def _spelled_otherwise(text: str) -> datetime:
    text, leaps = _LEAP_SECOND.subn("59", _LOST_PLUS.sub(r"\1+\2", text.upper()), count=1)
    try:
        return datetime.fromisoformat(text) + timedelta(seconds=leaps)
    except OverflowError as error:
        raise ValueError(f"not a moment: {error}") from None


def from_iso(text: str) -> int:
    """The moment that a text names as `parse_iso` reads it, in Unix microseconds.

    Raises NoZone where it gives no zone, ValueError for what is no moment.
    """
    when = parse_iso(text)
    if when.tzinfo is None:
        raise NoZone("the time has no zone")
    try:
        since = when - _EPOCH
    except OverflowError as error:
        raise ValueError(f"not a moment: {error}") from None
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def unix(moment: int | None) -> int | None:
    """Unix microseconds as whole Unix seconds, as the API shows them; None stays None."""
    return None if moment is None else moment // SECOND
