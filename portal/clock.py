"""Time: every `*_at` column holds Unix time in whole microseconds, UTC.

Microseconds, because the events of one batch get consecutive moments and so
keep the order in which they were sent.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache

MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def now() -> int:
    """The current moment in Unix microseconds, UTC."""
    return time.time_ns() // 1_000


def to_datetime(moment: int) -> datetime:
    """Unix microseconds as an aware UTC datetime."""
    return datetime.fromtimestamp(moment / SECOND, tz=UTC)


def iso(moment: int) -> str:
    """Unix microseconds as ISO 8601 with a zone, whole seconds: `2025-11-23T20:33:20Z`."""
    return _iso(moment // SECOND)


@lru_cache(maxsize=1_024)
def _iso(seconds: int) -> str:
    # A batch has thousands of moments in few seconds.
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(moment: int | None) -> int | None:
    """Unix microseconds as whole Unix seconds, as the API shows them; None stays None."""
    return None if moment is None else moment // SECOND
