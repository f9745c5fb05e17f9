"""An ID that comes again: with the same content it is a repeat, with other content a conflict.

What is stored with each event is a fingerprint of its text, which costs nearly nothing. One that
differs says nothing yet: the same content may be spelled otherwise, or have been stored by an older
portal, which read numbers as doubles. Only then is the content itself compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy as sa

from portal.db.session import db, table, writing
from portal.events.rules import FIELDS, NewEvent
from portal.models import Event, EventPayload
from portal.storage import sizes

TOGETHER = 500
"""IDs that one statement asks for."""

_COLUMNS = (
    "type", "object_type", "object_id", "source_user_type", "source_user_id", "correlation_id",
)
_RECORDS = FIELDS.index("data")


@dataclass(frozen=True)
class Known:
    """What is known of an event that is stored, or will be at the end of this transaction (then it
    is `event`). `fingerprint` is None where an older portal gave the ID; `occurred_at` is in
    Unix µs."""

    merchant_id: int
    id: str
    fingerprint: str | None
    deliveries: int
    occurred_at: int
    event: NewEvent | None = None


def find(merchant_id: int, ids: list[str]) -> Iterable[Known]:
    """Those of a merchant's events that are stored already."""
    for start in range(0, len(ids), TOGETHER):
        query = sa.select(
            Event.merchant_id, Event.id, Event.fingerprint, Event.deliveries, Event.occurred_at
        ).where(Event.merchant_id == merchant_id, Event.id.in_(ids[start : start + TOGETHER]))
        for row in db.session.execute(query):
            yield Known(*row)


def is_repeat(known: Known, event: NewEvent) -> bool:
    """Whether an event that came with a stored one's ID has its content.

    Once the record data is past its days, a spelling that differs counts as other content.
    """
    if known.event is not None:
        return is_same(known.event, event)
    fingerprints = (event.fingerprint(known.id), _former_fingerprint(event, known.occurred_at))
    return known.fingerprint in fingerprints or _is_as_stored(known, event)


def is_same(event: NewEvent, other: NewEvent) -> bool:
    """Whether two new events have the same content, however it is spelled."""
    return event[:_RECORDS] == other[:_RECORDS] and (
        _records(event.data, event.previous) == _records(other.data, other.previous)
    )


def _is_as_stored(known: Known, event: NewEvent) -> bool:
    stored = db.session.get_one(Event, (known.merchant_id, known.id))
    payload = db.session.get(EventPayload, (known.merchant_id, known.id))
    if payload is None or any(
        getattr(event, name) != getattr(stored, name) for name in _COLUMNS
    ):
        return False
    if event.occurred_at is None:
        happened_then = stored.occurred_at == stored.received_at
    else:
        # Older portals lost a microsecond now and then.
        happened_then = abs(event.occurred_at - stored.occurred_at) <= 1
    return happened_then and _records(event.data, event.previous) == _records(
        payload.data, payload.previous
    )


def _records(*texts: str | None) -> list[Any]:
    return [text and json.loads(text, parse_int=_worth, parse_float=_worth) for text in texts]


def _worth(number: str) -> tuple[Decimal | float]:
    # In a tuple, which JSON does not have: 1 is not the same as true.
    try:
        return (Decimal(number),)
    except InvalidOperation:
        # An exponent of more than eighteen digits.
        return (float(number),)


def _former_fingerprint(event: NewEvent, occurred_at: int) -> str:
    """The one that portals before 2026-12 made of an event with an ID."""
    content = dict(zip(FIELDS, event, strict=False))
    if event.occurred_at is not None and abs(event.occurred_at - occurred_at) <= 1:
        content["occurred_at"] = occurred_at
    for name, text in (("data", event.data), ("previous", event.previous)):
        content[name] = text and json.loads(text)
    told = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()


def forget_records(merchant_id: int, ids: list[str]) -> None:
    """Delete the records of these IDs whose events are gone: each would refuse its ID for ever."""
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
                        Event.merchant_id == payload.c.merchant_id,
                        Event.id == payload.c.event_id,
                    ),
                )
                .returning(*returned)
            )
            sizes.take_off(session, part, [tuple(row) for row in gone])
