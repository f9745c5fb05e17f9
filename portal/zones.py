"""Local time: zones by name, and the moments that a date and time on a wall clock mean.

Clocks are put forward and back, so a day may have 23, 24 or 25 hours, a local time may come twice,
and another never. Pure: no database, no request, no clock.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from portal.clock import SECOND

_OF_THIS_MACHINE = frozenset({"localtime", "Factory"})
"""Names in the zone files that say what this machine is set to, or that it is set to nothing."""
_OFFSET = re.compile(r"([+-])([01][0-9]|2[0-3]):?([0-5][0-9])")


def named(name: str) -> tzinfo:
    """A time zone by its IANA name, or an offset such as +02:00; empty is UTC.

    Raises ValueError with a sentence.
    """
    name = name.strip()
    if name.upper() in ("", "UTC", "Z"):
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset:
        sign, hours, minutes = offset.groups()
        distance = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(distance if sign == "+" else -distance)
    # Asked first: ZoneInfo would open whatever file the name leads to.
    if len(name) > 64 or name not in available_timezones() - _OF_THIS_MACHINE:
        raise ValueError(
            "Give a time zone such as Europe/Berlin, an offset such as +02:00, or UTC."
        )
    return ZoneInfo(name)


def span(start: datetime, length: timedelta) -> tuple[int, int]:
    """The first moment at which clocks show `start` or later, and the first one from which they
    show no time within `length` of it any more: a day ends at the next local midnight.

    `start` has a zone. A time that comes twice counts both times; one that clocks skip is the
    moment at which they skip it. Unix µs. Raises OverflowError beyond the years 1 to 9999.
    """
    last = start + (length - timedelta(microseconds=1))
    return _moment(start, fold=0), _moment(last, fold=1, after=1)


def _moment(local: datetime, fold: int, after: int = 0) -> int:
    """A local time as Unix µs, the first or the second time it comes; `after` is added to it, but
    not to the moment of a jump over it, which comes after it already."""
    first, second = (_seconds(local.replace(fold=which)) for which in (0, 1))
    if second < first:
        # Only a skipped time reads so (PEP 495): by the offset before the jump it lies after the
        # jump, and by the one after it before.
        return _jump(second, first, local.tzinfo) * SECOND
    return (second if fold else first) * SECOND + local.microsecond + after


def _jump(early: int, late: int, zone: tzinfo | None) -> int:
    """When the clocks of a zone jump, between two moments in Unix seconds."""

    def offset(seconds: int) -> timedelta | None:
        return datetime.fromtimestamp(seconds, zone).utcoffset()

    before = offset(early)
    return early + bisect_left(
        range(early, late), True, key=lambda seconds: offset(seconds) != before
    )


def _seconds(when: datetime) -> int:
    """Whole Unix seconds, exactly: a float has not the digits for µs in all years."""
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
