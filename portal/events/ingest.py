"""1 EVENT IN: check events, store them with the deliveries they owe, then wake the lanes.

What is answered was committed in one transaction: the event, its record data and one delivery
for each webhook that wants it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError

from portal import bulk, queues
from portal.clock import SECOND, now
from portal.errors import Conflict, FieldError
from portal.events import matching, rules
from portal.events.rules import NewEvent
from portal.extensions import db, table, writing
from portal.ids import new_id
from portal.models import Delivery, Event, EventPayload, Merchant, Webhook
from portal.strict_json import dump

MAX_BATCH = rules.MAX_BATCH
_RACES = 5


@dataclass(frozen=True)
class Accepted:
    """The answer for one event: its ID and how many deliveries it owes."""

    id: str
    deliveries: int


def ingest_events(merchant: Merchant, events: Sequence[Any], *, batch: bool) -> list[Accepted]:
    """Store a merchant's events and the deliveries they owe, all or none.

    `events` are parsed JSON values in the shape of PRODUCT.md; `batch` says whether they came
    in a list, for the pointers of errors. Sending an `id` again with the same content gives the
    first answer again and stores nothing.
    Raises Invalid for wrong fields, Conflict for an `id` in use with other content, Unavailable
    when the database cannot take the write.
    """
    merchant_id = merchant.id
    clean = rules.clean_events(merchant_id, events, batch=batch)
    for attempt in range(_RACES):
        try:
            answers, lanes = _store(merchant_id, clean, batch)
            break
        except IntegrityError:
            # Another request stored one of these IDs at the same moment; now it can be seen.
            if attempt == _RACES - 1:
                raise
    queues.wake(lanes)
    return answers


def _store(
    merchant_id: int, events: list[NewEvent], batch: bool
) -> tuple[list[Accepted], set[int]]:
    with writing() as session:
        known = _known(merchant_id, [event.id for event in events if event.id])
        fresh: dict[str, NewEvent] = {}
        answers: list[str] = []
        for place, event in enumerate(events):
            event_id = event.id or new_id("evt")
            answers.append(event_id)
            if event.id:
                earlier = known.get(event.id)
                if earlier is None and event.id in fresh:
                    earlier = (fresh[event.id].fingerprint(), 0)
                if earlier is not None:
                    if earlier[0] != event.fingerprint():
                        raise _reused(event.id, place, batch)
                    continue
            fresh[event_id] = event
        rows = _rows(merchant_id, fresh)
        for model, made in (
            (Event, rows.events), (EventPayload, rows.payloads), (Delivery, rows.deliveries)
        ):
            if made:
                columns = tuple(made[0])
                bulk.insert(session, table(model), columns, [[*row.values()] for row in made])
    counts = {row["id"]: row["deliveries"] for row in rows.events}
    return (
        [
            Accepted(event_id, counts[event_id] if event_id in counts else known[event_id][1])
            for event_id in answers
        ],
        rows.lanes,
    )


def _known(merchant_id: int, ids: list[str]) -> dict[str, tuple[str | None, int]]:
    found: dict[str, tuple[str | None, int]] = {}
    for start in range(0, len(ids), 500):
        query = sa.select(Event.id, Event.fingerprint, Event.deliveries).where(
            Event.merchant_id == merchant_id, Event.id.in_(ids[start : start + 500])
        )
        for event_id, fingerprint, deliveries in db.session.execute(query):
            found[event_id] = (fingerprint, deliveries)
    return found


def _reused(event_id: str, place: int, batch: bool) -> Conflict:
    message = f"The id {event_id!r} was used before with other content; send a new id."
    pointer = f"/events/{place}/id" if batch else "/id"
    return Conflict(message, [FieldError(pointer, message)])


@dataclass
class _Rows:
    events: list[dict[str, Any]]
    payloads: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]
    lanes: set[int]


def _rows(merchant_id: int, fresh: dict[str, NewEvent]) -> _Rows:
    rows = _Rows([], [], [], set())
    webhooks = _sending_webhooks(merchant_id) if fresh else []
    first_delay = current_app.config["PORTAL"].retry_schedule[0]
    moment = now()
    for place, (event_id, event) in enumerate(fresh.items()):
        # Consecutive microseconds keep the order of a batch.
        received_at = moment + place
        owed = [
            webhook
            for webhook in webhooks
            if matching.why_not(
                webhook, event.type, event.source_user_type, event.source_user_id
            ) is matching.SENT
        ]
        rows.events.append(event_row(merchant_id, event_id, event, received_at, len(owed)))
        rows.payloads.append(payload_row(merchant_id, event_id, event, received_at))
        for webhook in owed:
            delay = webhook.retry_schedule[0] if webhook.retry_schedule else first_delay
            rows.lanes.add(webhook.lane)
            rows.deliveries.append(
                delivery_row(
                    merchant_id, event_id, webhook.id, received_at, delay,
                    object_key=event.object_key if webhook.ordered else None,
                )
            )
    return rows


def _sending_webhooks(merchant_id: int) -> Sequence[Any]:
    """The webhooks that could get an event now: none when the feature is inactive."""
    return db.session.execute(
        sa.select(
            Webhook.id, Webhook.lane, Webhook.enabled, Webhook.events, Webhook.only_sources,
            Webhook.except_sources, Webhook.retry_schedule, Webhook.ordered,
        )
        .join(Merchant, Merchant.id == Webhook.merchant_id)
        .where(
            Webhook.merchant_id == merchant_id, Merchant.active, Webhook.enabled,
            Webhook.deleted_at.is_(None),
        )
    ).all()


def event_row(
    merchant_id: int, event_id: str, event: NewEvent, received_at: int, deliveries: int,
    *, is_test: bool = False,
) -> dict[str, Any]:
    """The `event` row of a checked event; `received_at` in Unix µs."""
    return {
        "merchant_id": merchant_id,
        "id": event_id,
        "type": event.type,
        "object_type": event.object_type,
        "object_id": event.object_id,
        "source_user_type": event.source_user_type,
        "source_user_id": event.source_user_id,
        "correlation_id": event.correlation_id,
        "occurred_at": received_at if event.occurred_at is None else event.occurred_at,
        "received_at": received_at,
        "fingerprint": event.fingerprint() if event.id else None,
        "deliveries": deliveries,
        "schema_error": event.schema_error,
        "is_test": is_test,
    }


def payload_row(
    merchant_id: int, event_id: str, event: NewEvent, received_at: int
) -> dict[str, Any]:
    """The `event_payload` row of a checked event: the bytes that targets receive."""
    return {
        "merchant_id": merchant_id,
        "event_id": event_id,
        "head": event.head(event_id, received_at),
        "data": None if event.data is None else dump(event.data),
        "previous": None if event.previous is None else dump(event.previous),
        "received_at": received_at,
    }


def delivery_row(
    merchant_id: int, event_id: str, webhook_id: str, moment: int, delay_seconds: int,
    *, object_key: str | None = None,
) -> dict[str, Any]:
    """The `delivery` row of one event owed to one webhook, first due after `delay_seconds`, and
    with an `object_key` after what is owed before it for the same record."""
    return {
        "id": new_id("dlv"),
        "merchant_id": merchant_id,
        "event_id": event_id,
        "webhook_id": webhook_id,
        "state": "pending",
        "attempts": 0,
        "step": 0,
        "is_retry": False,
        "trigger": "scheduled",
        "next_attempt_at": moment + delay_seconds * SECOND,
        "created_at": moment,
        "object_key": object_key,
    }

