"""An ID that is sent again: with the same content it is a repeat, with other content a conflict.

Each event is stored with a fingerprint of its text, which costs almost nothing. If the fingerprints
differ, the content may still be the same: spelled in another way, or stored by an older portal,
which read numbers as doubles. Only then is the content itself compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from portal.db.session import db, reading, table, writing
from portal.events.rules import FIELDS, NewEvent
from portal.models import Event, EventPayload
from portal.storage import sizes

TOGETHER = 500
"""How many IDs one statement asks for."""

_COLUMNS = (
    "type",
    "object_type",
    "object_id",
    "source_user_type",
    "source_user_id",
    "correlation_id",
)
_RECORDS = FIELDS.index("data")


@dataclass(frozen=True)
class Known:
    """What is known of an event that is stored, or will be when this transaction ends.
    `fingerprint` is None if an older portal chose the ID."""

    merchant_id: int
    id: str
    fingerprint: str | None
    deliveries: int


class Content:
    """The content of a new event, however it is spelled; its records are parsed once."""

    def __init__(self, event: NewEvent):
        self.event = event

    @cached_property
    def _own_records(self) -> list[Any]:
        return read_records(self.event.data, self.event.previous)

    def is_of(self, event: NewEvent) -> bool:
        """Whether a new event has this content."""
        return self._is_same_otherwise(event) and (
            (event.data, event.previous) == (self.event.data, self.event.previous)
            or self._own_records == read_records(event.data, event.previous)
        )

    def _is_same_otherwise(self, event: NewEvent) -> bool:
        """Whether everything but the records is the same."""
        return event[:_RECORDS] == self.event[:_RECORDS]


@dataclass(frozen=True)
class _Row:
    """The moments of a stored event, its fingerprint, and whether its records are still there."""

    id: str
    fingerprint: str | None
    occurred_at: int
    received_at: int
    has_records: bool


class Stored(Content):
    """A stored event's content."""

    def __init__(self, event: NewEvent, row: _Row):
        super().__init__(event)
        self._row = row

    def is_of(self, event: NewEvent) -> bool:
        """Whether an event that came with the same ID has this content.

        Once the record data has been deleted, another spelling counts as other content.
        """
        if self._row.has_records and super().is_of(event):
            return True
        row = self._row
        return (
            row.fingerprint is not None
            and self._may_be_old()
            and (row.fingerprint == former_fingerprint(event, row.occurred_at))
        )

    def _is_same_otherwise(self, event: NewEvent) -> bool:
        if any(getattr(event, name) != getattr(self.event, name) for name in _COLUMNS):
            return False
        if event.occurred_at is None:
            return self._row.occurred_at == self._row.received_at
        # Older portals lost a microsecond now and then.
        return abs(event.occurred_at - self._row.occurred_at) <= 1

    def _may_be_old(self) -> bool:
        """Whether a portal before 2026-12 may have stored it: as far as can be told, its
        fingerprint is not one that is made today."""
        row, event = self._row, self.event
        moments = {row.occurred_at, None if row.occurred_at == row.received_at else row.occurred_at}
        return not row.has_records or row.fingerprint not in [
            event._replace(occurred_at=moment).fingerprint(row.id) for moment in moments
        ]


def find(merchant_id: int, ids: list[str]) -> Iterable[Known]:
    """Those of these events of a merchant that are stored already."""
    for start in range(0, len(ids), TOGETHER):
        query = sa.select(Event.merchant_id, Event.id, Event.fingerprint, Event.deliveries).where(
            Event.merchant_id == merchant_id, Event.id.in_(ids[start : start + TOGETHER])
        )
        for row in db.session.execute(query):
            yield Known(*row)


def load(known: Known) -> Stored | None:
    """A stored event, ready to be compared; None when it is gone. In a transaction of its own."""
    event, payload = table(Event), table(EventPayload)
    query = (
        sa.select(
            *(event.c[name] for name in _COLUMNS),
            event.c.fingerprint,
            event.c.occurred_at,
            event.c.received_at,
            payload.c.event_id,
            payload.c.data,
            payload.c.previous,
        )
        .select_from(event)
        .outerjoin(
            payload,
            sa.and_(payload.c.merchant_id == event.c.merchant_id, payload.c.event_id == event.c.id),
        )
        .where(event.c.merchant_id == known.merchant_id, event.c.id == known.id)
    )
    with reading() as session:
        row = session.execute(query).first()
    if row is None:
        return None
    columns = {name: getattr(row, name) for name in _COLUMNS}
    event_as_new = NewEvent(
        **columns,
        occurred_at=row.occurred_at,
        id=known.id,
        data=row.data,
        previous=row.previous,
        schema_error=None,
    )
    return Stored(
        event_as_new,
        _Row(known.id, row.fingerprint, row.occurred_at, row.received_at, row.event_id is not None),
    )


def read_records(*texts: str | None) -> list[Any]:
    """The values of these texts of JSON, their numbers by their worth."""
    return [text and json.loads(text, parse_int=_worth, parse_float=_worth) for text in texts]


def _worth(number: str) -> tuple[Decimal | float]:
    # In a tuple, a type that JSON does not have, so that 1 is not the same as true.
    try:
        return (Decimal(number),)
    except InvalidOperation:
        # An exponent of more than eighteen digits.
        return (float(number),)


def former_fingerprint(event: NewEvent, occurred_at: int) -> str:
    """The fingerprint that portals before 2026-12 made of an event with an ID."""
    content = dict(zip(FIELDS, event, strict=False))
    if event.occurred_at is not None and abs(event.occurred_at - occurred_at) <= 1:
        content["occurred_at"] = occurred_at
    for name, text in (("data", event.data), ("previous", event.previous)):
        content[name] = text and json.loads(text)
    told = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()


def forget_records(merchant_id: int, ids: list[str]) -> None:
    """Delete records with these IDs whose events are gone: an ID would be refused for ever."""
    payload, part = table(EventPayload), sizes.part_of(table(EventPayload))
    assert part is not None
    with writing() as session:
        returned = sizes.of_deleted(part, session.get_bind().dialect.name)
        for start in range(0, len(ids), TOGETHER):
            gone = session.execute(
                sa.delete(payload)
                .where(
                    payload.c.merchant_id == merchant_id,
                    payload.c.event_id.in_(ids[start : start + TOGETHER]),
                    ~sa.exists().where(
                        Event.merchant_id == payload.c.merchant_id, Event.id == payload.c.event_id
                    ),
                )
                .returning(*returned)
            )
            sizes.take_off(session, part, [tuple(row) for row in gone])
