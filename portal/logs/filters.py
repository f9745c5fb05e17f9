"""The filters of the logs: what people typed, checked and made into values for a query.

Pages and the API take the same ones. Knows no database and no request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta, tzinfo
from typing import Any

from portal import zones
from portal.characters import NOT_TEXT
from portal.clock import DAY, END_OF_TIME, HOUR, MINUTE, SECOND, from_digits, now, parse_iso
from portal.errors import FieldError, Invalid
from portal.models.delivery import STATES, TRIGGERS
from portal.models.webhook import METHODS

EVENTS = (
    "type",
    "object_type",
    "object_id",
    "source_user_type",
    "source_user_id",
    "correlation_id",
    "event_id",
    "schema",
    "test",
    "text",
    "since",
    "until",
)
ATTEMPTS = (
    "webhook_id",
    "event_id",
    "status",
    "outcome",
    "error",
    "method",
    "request_id",
    "trigger",
    "since",
    "until",
)
LOGS = {"events": EVENTS, "attempts": ATTEMPTS}
"""The filters of each log by its name."""
DELIVERIES = ("event_id", "webhook_id", "state", "since", "until")

PRESETS = (("15m", "15 min"), ("24h", "24 h"), ("7d", "7 d"))
"""The periods that pages offer, as values of `since`."""
MAX_TEXT = 255
"""Characters of a filter's value: no column that is searched is longer."""

_TYPE = re.compile(r"\*|[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?")
_STATUS = re.compile(r"[1-9][0-9]{2}|[1-5]xx|none")
_ERROR = re.compile(r"[a-z0-9_]{1,40}")
_TEXT = re.compile(r".{3,}")
_AGO = re.compile(r"([1-9][0-9]{0,3}) ?(m|h|d)")
_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}
_WHOLE_MINUTE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d([Zz]|[+ -]\d\d:?\d\d)?")
_WHOLE_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def clean(names: Iterable[str], given: Mapping[str, Any], zone: str = "UTC") -> dict[str, Any]:
    """The values of those filters among `names` that were given; empty ones are left out.

    Takes texts as they were typed. `since` and `until` may also be moments (Unix µs); `15m`, `24h`
    and `7d` mean that long ago; a text without a zone is a time in `zone`. The result has `since`
    and, in place of `until`, `before`: the first moment that is not wanted any more, since `until`
    includes the whole second, minute or day it names, by the clocks of `zone` (portal.zones).
    Raises Invalid with a pointer such as `/since` for each wrong value.
    """
    values: dict[str, Any] = {}
    errors: list[FieldError] = []

    typed_in: tzinfo = UTC
    try:
        typed_in = zones.named(zone)
    except ValueError as error:
        errors.append(FieldError("/zone", str(error)))
    for name in names:
        value = given.get(name)
        if value is None or value == "":
            continue
        try:
            if name in ("since", "until"):
                values[name] = _span(name, value, typed_in)[name == "until"]
            else:
                values[name] = _text(name, value)
        except ValueError as error:
            errors.append(FieldError(f"/{name}", str(error)))
    if "until" in values:
        values["before"] = values.pop("until")
        since = values.get("since", 0)
        if values["before"] < since:
            errors.append(FieldError("/until", "To is before From; give a later moment."))
        elif values["before"] == since:
            errors.append(FieldError("/until", _why_empty(given["until"], typed_in)))
    if errors:
        raise Invalid(errors)
    return values


def _why_empty(until: Any, zone: tzinfo) -> str:
    """Why nothing lies between a moment and `until`."""
    day = str(until).strip()
    if _WHOLE_DAY.fullmatch(day):
        first, after = _local_span(day, zone)
        if first == after:
            return f"The clocks of {zone} skipped the day {day}; give another one in To."
    # Twice the same age, or two times within an hour that the clocks skip.
    return "From and To are the same moment; give a later one in To."


def _span(name: str, value: Any, zone: tzinfo) -> tuple[int, int]:
    """The first moment of the time that was named, and the first one after it, in Unix µs."""
    if isinstance(value, int):
        return _second_of(value)
    text = value.strip()
    ago = _AGO.fullmatch(text)
    if ago:
        then = now() - int(ago[1]) * _UNITS[ago[2]]
        return then, then
    try:
        moment = from_digits(text)
        first, after = _local_span(text, zone) if moment is None else _second_of(moment)
    except (ValueError, OverflowError):
        first = after = -1
    if not 0 <= first < END_OF_TIME:
        raise ValueError(
            f"{'From' if name == 'since' else 'To'} is no moment: give a date and time such as "
            "2025-11-23T20:33, ISO 8601 with a zone, Unix seconds, or how long ago: 24h."
        )
    return first, after


def _second_of(moment: int) -> tuple[int, int]:
    return moment, (moment // SECOND + 1) * SECOND


def _local_span(text: str, zone: tzinfo) -> tuple[int, int]:
    """The same for a date and time, by the clocks of `zone` where it names none itself."""
    when = parse_iso(text)
    when = when if when.tzinfo else when.replace(tzinfo=zone)
    unit = timedelta(seconds=1)
    if _WHOLE_MINUTE.fullmatch(text):
        unit = timedelta(minutes=1)
    elif _WHOLE_DAY.fullmatch(text):
        unit = timedelta(days=1)
    # `since` is as fine as it was typed; `until` includes its whole second.
    first, _ = zones.span(when, unit)
    _, after = zones.span(when.replace(microsecond=0), unit)
    return first, after


def _text(name: str, value: Any) -> Any:
    text = str(value).strip()
    label = name.replace("_", " ").capitalize().replace(" id", " ID")
    if len(text) > MAX_TEXT:
        raise ValueError(f"{label} is over {MAX_TEXT} characters; no such value is in the log.")
    if NOT_TEXT.search(text):
        raise ValueError(f"{label} holds a control character; type it without.")
    allowed = CHOICES.get(name)
    if allowed and text not in allowed:
        raise ValueError(f"{label} is one of {', '.join(allowed)}.")
    pattern, remedy = PATTERNS.get(name, (None, ""))
    if pattern and not pattern.fullmatch(text):
        raise ValueError(remedy)
    return text


CHOICES = {
    "schema": ("ok", "flagged"),
    "test": ("yes", "no"),
    "outcome": ("ok", "failed"),
    "method": METHODS,
    "trigger": TRIGGERS,
    "state": STATES,
}
PATTERNS = {
    "type": (_TYPE, "Give an event type such as order.created, or a group such as order.*."),
    "status": (_STATUS, "Give a status such as 200, a class such as 5xx, or none."),
    "error": (_ERROR, "Give an error code such as connect_timeout."),
    "text": (_TEXT, "Give at least 3 characters of what the record holds."),
}
