"""Liquid's `date`: a moment, in whatever way a record writes it, as a template's pattern asks."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from dateutil import parser

from portal.composing.printing import printed

_LONGEST = 100
_UTC_BEFORE_OFFSET = re.compile(r"\s*\b(?:UTC|GMT|UT)(?=[+-]\d)", re.I)
"""As JavaScript's Date writes its zone, "GMT+0100"."""
_DOTTED_DAY = re.compile(r"\s*\d{1,2}\.\s?\d{1,2}\.\s?\d{4}")
"""Where dots part a date, the day comes first."""
_MAIL_ZONES = {
    "EST": -5,
    "EDT": -4,
    "CST": -6,
    "CDT": -5,
    "MST": -7,
    "MDT": -6,
    "PST": -8,
    "PDT": -7,
}
"""Names of zones that a standard gives hours (RFC 5322, 4.3)."""


def date(value: Any, pattern: Any = "") -> str:
    """Liquid's `date`: moments in UTC, where the value names no zone itself; what is no moment
    stays as it is, and nothing is made of nothing."""
    moment = _moment(value)
    if moment is None or not printed(pattern):
        return printed(value)
    unix = str(int(moment.timestamp()))
    # "%s" is read in the machine's own zone otherwise.
    text = re.sub("%%|%s", lambda found: unix if found[0] == "%s" else "%%", printed(pattern))
    return moment.strftime(text)


def _moment(value: Any) -> datetime | None:
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int | float | Decimal) or (
            isinstance(value, str) and value.isdecimal()
        ):
            return datetime.fromtimestamp(float(value), UTC)
        if not isinstance(value, str) or len(value) > _LONGEST:
            return None
        today = datetime.now(UTC)
        if value in ("now", "today"):
            return today
        midnight = today.replace(hour=0, minute=0, second=0, microsecond=0)
        # dateutil reads "GMT+3" as POSIX does, three hours west.
        text = _UTC_BEFORE_OFFSET.sub(" ", value)
        is_day_first = _DOTTED_DAY.match(text) is not None
        found: datetime = parser.parse(text, default=midnight, tzinfos=_zone, dayfirst=is_day_first)
        return found
    except (ValueError, OverflowError, OSError):
        return None


def _zone(name: str | None, offset: int | None) -> timezone:
    # Other names say different things in different places, and to dateutil what the machine's own
    # zone is called.
    if offset is None:
        return timezone(timedelta(hours=_MAIL_ZONES.get(name or "", 0)))
    return timezone(timedelta(seconds=offset))
