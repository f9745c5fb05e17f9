"""What an event must look like (docs/api.md, "Sending events"), checked field by field."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from portal.characters import NOT_IN_LINE
from portal.clock import (
    DAY,
    NO_MOMENT,
    NO_ZONE,
    SECOND,
    NoZone,
    from_iso,
    from_seconds,
    now,
    rfc3339,
)
from portal.errors import FieldError, Invalid, pointer
from portal.events import catalogue, schemas
from portal.json_values import Done, nothing
from portal.strict_json import text, text_of, whole

MAX_BATCH = 1_000
MAX_TEXT = 255
MAX_RECORD = 2 * 1_048_576
"""Bytes of an event's `data` and `previous` together, also in a batch: each delivery has all of
them in memory at once."""
_LONG = MAX_RECORD // 4
"""Fewer characters cannot be too many bytes: none has more than four."""
_CHECKING = 64
"""To check so much by a schema (schemas.Work) takes as long as to read a character."""
MAX_ERRORS = 50
"""Errors named in one answer: nobody needs a thousand sentences about a thousand wrong events."""

FIELDS = (
    "type",
    "object_type",
    "object_id",
    "source_user_type",
    "source_user_id",
    "occurred_at",
    "correlation_id",
    "id",
    "data",
    "previous",
)
_FIELDS = frozenset(FIELDS)
_EARLIEST = 0
_FUTURE = DAY
_OLD = 10**8 * SECOND
_UNITS = (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_NUMBERS = (int, float, Decimal)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class NewEvent(NamedTuple):
    """A checked event: FIELDS, and where its data breaks the type's schema. `occurred_at` is in
    Unix µs; None means the moment it came in. `data` and `previous` are JSON texts, as targets get
    them. A tuple, since a frozen dataclass takes seven times as long to make."""

    type: str
    object_type: str
    object_id: str | None
    source_user_type: str | None
    source_user_id: str | None
    occurred_at: int | None
    correlation_id: str | None
    id: str | None
    data: str | None
    previous: str | None
    schema_error: str | None

    @property
    def object_key(self) -> str | None:
        """The record that the event is about, as one text; None without an object ID."""
        return None if self.object_id is None else f"{self.object_type}:{self.object_id}"

    @property
    def characters(self) -> int:
        """How long its records are."""
        return len(self.data or "") + len(self.previous or "")

    def fingerprint(self, event_id: str) -> str:
        """SHA-256 (hex) of the event's ID and its text as it was written. The same content, spelled
        in another way, has another one (portal.events.repeats)."""
        told = (
            f"{event_id}\n{self.type}\n{self.object_type}\n{self.object_id or ''}\n"
            f"{self.source_user_type or ''}\n{self.source_user_id or ''}\n{self.occurred_at}\n"
            f"{self.correlation_id or ''}\n{self.data}\n{self.previous}"
        )
        return hashlib.sha256(told.encode()).hexdigest()

    def head(self, event_id: str, received_at: int) -> str:
        """The JSON text that a target receives, without the object record. Its `sequence` is the
        moment it has in the log: an event sent after another was answered has the greater
        number."""
        occurred_at = received_at if self.occurred_at is None else self.occurred_at
        # Written by hand, because encoding a dict takes three times as long. Texts of _ID and _NAME
        # and the names of the catalogue need no escapes.
        return (
            f'{{"id":"{event_id}","type":"{self.type}",'
            f'"timestamp":"{rfc3339(occurred_at)}","created":{occurred_at // SECOND},'
            f'"sequence":{received_at},'
            f'"object_type":"{self.object_type}","object_id":{text(self.object_id)},'
            f'"source_user_type":{text(self.source_user_type)},'
            f'"source_user_id":{text(self.source_user_id)},'
            f'"correlation_id":{text(self.correlation_id)}}}'
        )


def clean_events(
    merchant_id: int, events: Sequence[Any], *, batch: bool, done: Done = nothing
) -> list[NewEvent]:
    """Check events and fill in defaults; `done` is told how long the records of each are. Raises
    Invalid naming each wrong field, with pointers `/events/<n>/<field>` in a batch."""
    if batch and not 1 <= len(events) <= MAX_BATCH:
        raise Invalid(
            [FieldError("/events", f"Send 1 to {MAX_BATCH:,} events, not {len(events):,}.")]
        )
    clean = []
    types = _Types(merchant_id)
    cleaner, left = _Cleaner(types, now(), batch=batch), types.schema_work.left
    for index, event in enumerate(events):
        result = cleaner.clean(event, index)
        if result is not None:
            clean.append(result)
            checked, left = left - types.schema_work.left, types.schema_work.left
            done(result.characters + checked // _CHECKING)
        elif len(cleaner.errors) >= MAX_ERRORS:
            break
    if cleaner.errors:
        raise Invalid(cleaner.errors[:MAX_ERRORS])
    return clean


class _Types:
    """The catalogue as one request sees it: each name is looked up once."""

    def __init__(self, merchant_id: int):
        self._merchant_id = merchant_id
        self.schema_work = schemas.Work()
        self._found: dict[str, catalogue.EventType | None] = {}

    def known(self, name: Any) -> catalogue.EventType | None:
        """The type of a name that was looked up before."""
        return self._found.get(name) if type(name) is str else None

    def find(self, name: str) -> catalogue.EventType | None:
        if name not in self._found:
            self._found[name] = catalogue.find(self._merchant_id, name)
        return self._found[name]

    def nearest(self, name: str) -> list[str]:
        return catalogue.nearest(self._merchant_id, name)


class _Cleaner:
    """Checks the events of a request one after the other, without a call for fields that most of
    them leave out."""

    def __init__(self, types: _Types, moment: int, *, batch: bool):
        self._types = types
        self._moment = moment
        self._batch = batch
        self._index = 0
        self.errors: list[FieldError] = []

    def clean(self, event: Any, index: int) -> NewEvent | None:
        """The event with this index in its request, checked; None if something is wrong with it."""
        self._index = index
        if not isinstance(event, dict):
            self.errors.append(
                FieldError(self._pointer, 'An event is an object such as {"type": "order.paid"}.')
            )
            return None
        errors = len(self.errors)
        if not event.keys() <= _FIELDS:
            self._unknown(event)
        name = event.get("type")
        event_type = self._types.known(name) or self._type(name)
        given_type = event_type.name if event_type else ""
        object_type = "object_type" in event and self._text(
            event, "object_type", _NAME, "letters, digits, . _ and -"
        )
        data = self._object(event, "data")
        previous = self._object(event, "previous") if "previous" in event else None
        cleaned = (
            given_type,
            object_type or given_type.partition(".")[0],
            self._text(event, "object_id", numbers=True),
            self._text(event, "source_user_type", _NAME, "letters, digits, . _ and -")
            if "source_user_type" in event
            else None,
            self._text(event, "source_user_id", numbers=True)
            if "source_user_id" in event
            else None,
            self._moment_of(event["occurred_at"]) if "occurred_at" in event else None,
            self._text(event, "correlation_id") if "correlation_id" in event else None,
            self._text(event, "id", _ID, "letters, digits, . _ : and -") if "id" in event else None,
            None if data is None else text_of(data),
            None if previous is None else text_of(previous),
        )
        if len(cleaned[-2] or "") + len(cleaned[-1] or "") > _LONG:
            self._check_size(cleaned[-2:])
        if len(self.errors) > errors or event_type is None:
            return None
        return NewEvent(*cleaned, catalogue.schema_error(event_type, data, self._types.schema_work))

    @property
    def _pointer(self) -> str:
        return f"/events/{self._index}" if self._batch else ""

    def _check_size(self, texts: Sequence[str | None]) -> None:
        size = sum(len((text or "").encode()) for text in texts)
        if size > MAX_RECORD:
            self._wrong(
                "data",
                f"data and previous have {size:,} bytes together; one event may have at "
                f"most {MAX_RECORD:,}. Send less of the record.",
            )

    def _unknown(self, event: dict[str, Any]) -> None:
        for name in event:
            if name not in _FIELDS:
                self._wrong(
                    name[:100], f"An event has no field {name[:100]!r}; it has {', '.join(FIELDS)}."
                )

    def _wrong(self, field: str, message: str) -> None:
        self.errors.append(FieldError(self._pointer + pointer(field), message))

    def _type(self, name: Any) -> catalogue.EventType | None:
        if name is None:
            self._wrong("type", 'The field type is missing; give one such as "order.created".')
        elif not isinstance(name, str) or not catalogue.valid_name(name):
            self._wrong(
                "type",
                "type is text such as order.created: two or more parts of a–z, 0–9 and _, "
                f"separated by dots, at most {MAX_TEXT} characters.",
            )
        else:
            found = self._types.find(name)
            if found is not None:
                return found
            nearest = self._types.nearest(name)
            hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
            self._wrong(
                "type", f"The event type {name} is not in the catalogue; add it there first.{hint}"
            )
        return None

    def _text(
        self,
        event: dict[str, Any],
        field: str,
        pattern: re.Pattern[str] | None = None,
        made_of: str = "",
        *,
        numbers: bool = False,
    ) -> str | None:
        value = event.get(field)
        if value is None:
            return None
        if (
            type(value) is str
            and (pattern.fullmatch(value) if pattern else 0 < len(value) <= MAX_TEXT)
            and value.isprintable()
        ):
            return value
        if numbers and not isinstance(value, str):
            number = whole(value)
            value = value if number is None else str(number)
        if not isinstance(value, str):
            self._wrong(field, f"{field} is text; send it in quotes.")
        elif not 1 <= len(value) <= MAX_TEXT:
            self._wrong(field, f"{field} has 1 to {MAX_TEXT} characters.")
        elif NOT_IN_LINE.search(value):
            self._wrong(field, f"{field} holds a control character or line break; leave it out.")
        elif pattern is not None and not pattern.fullmatch(value):
            self._wrong(field, f"{field} is made of {made_of}, and starts with a letter or digit.")
        else:
            return value
        return None

    def _object(self, event: dict[str, Any], field: str) -> dict[str, Any] | None:
        value = event.get(field)
        if value is None or isinstance(value, dict):
            return value
        self._wrong(field, f"{field} is an object with the record's fields, or null.")
        return None

    def _moment_of(self, value: Any) -> int | None:
        if value is None:
            return None
        try:
            moment = _moment(value)
        except NoZone:
            self._wrong("occurred_at", f"occurred_at {NO_ZONE}")
        except ValueError:
            self._wrong("occurred_at", f"occurred_at {NO_MOMENT}")
        else:
            if _EARLIEST <= moment <= self._moment + _FUTURE:
                return moment
            hint = self._hint(moment) if type(value) in _NUMBERS else ""
            self._wrong(
                "occurred_at", f"occurred_at is before 1970 or more than a day ahead.{hint}"
            )
        return None

    def _hint(self, moment: int) -> str:
        for unit, parts in _UNITS:
            if moment // parts > _OLD and moment // parts <= self._moment + _FUTURE:
                return f" It looks like {unit}; send seconds."
        return ""


def _moment(value: Any) -> int:
    if type(value) in _NUMBERS:
        return from_seconds(value)
    if isinstance(value, str):
        return from_iso(value)
    raise ValueError("neither text nor a number")
