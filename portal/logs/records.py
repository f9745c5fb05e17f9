"""The story of one record: every event, what it changed, where it was sent, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from portal.db.keyset import LogPage
from portal.db.session import db
from portal.errors import NotFound
from portal.logs import browse, stories
from portal.logs.changes import Changes, between
from portal.models import Attempt, Delivery, Event, EventPayload, Webhook

EVENTS_ON_A_PAGE = 20
SHOWN_ATTEMPTS = 5
"""The newest attempts of each delivery."""
SHOWN_RELATED = 5
"""Events of the same action, of other records."""


@dataclass(frozen=True)
class Sent:
    """One delivery of an event: its webhook, the state that people see, its newest attempts."""

    delivery: Delivery
    webhook: Webhook | None
    state: str
    attempts: Sequence[Attempt]


@dataclass(frozen=True)
class Chapter:
    """One event of the record. `changes` is None where the record data has been deleted for its age
    or was never sent; `is_first` says that the log has no earlier event of the record."""

    event: Event
    changes: Changes | None
    is_first: bool
    sent: Sequence[Sent]
    related: Sequence[Event]


def story(
    merchant_id: int, object_type: str, object_id: str, cursor: str | None = None
) -> LogPage[Chapter]:
    """A page of what happened to a merchant's record, the newest event first.

    Raises NotFound when no event of it is in the log, BadCursor.
    """
    given = {"object_type": object_type, "object_id": object_id}
    page = browse.EVENTS.page(merchant_id, given, cursor, EVENTS_ON_A_PAGE)
    if not page.rows:
        raise NotFound("No event of this record is in the log; events past their days are deleted.")
    before = _event_before(page.rows[-1])
    payloads = _payloads(merchant_id, [*page.rows, before] if before else page.rows)
    sent = _sent(merchant_id, page.rows)
    known = payloads.get(before.id) if before else None
    chapters = []
    for event in reversed(page.rows):
        payload = payloads.get(event.id)
        changes = None
        if payload and (payload.data or payload.previous):
            changes = between(payload.data, payload.previous, known.data if known else None)
        chapters.append(
            Chapter(event, changes, before is None, sent.get(event.id, []), _related(event))
        )
        before = event
        known = payload if payload and payload.data else known
    return LogPage(chapters[::-1], page.next_cursor, page.previous_cursor, page.is_first)


def _event_before(event: Event) -> Event | None:
    return db.session.scalar(
        sa.select(Event)
        .where(
            Event.merchant_id == event.merchant_id,
            Event.object_type == event.object_type,
            Event.object_id == event.object_id,
            sa.tuple_(Event.received_at, Event.id) < (event.received_at, event.id),
        )
        .order_by(Event.received_at.desc(), Event.id.desc())
        .limit(1)
    )


def _payloads(merchant_id: int, events: Sequence[Event]) -> dict[str, EventPayload]:
    found = db.session.scalars(
        sa.select(EventPayload).where(
            EventPayload.merchant_id == merchant_id,
            EventPayload.event_id.in_([event.id for event in events]),
        )
    )
    return {payload.event_id: payload for payload in found}


def _sent(merchant_id: int, events: Sequence[Event]) -> dict[str, list[Sent]]:
    ids = [event.id for event in events if event.deliveries]
    if not ids:
        return {}
    deliveries = db.session.scalars(
        sa.select(Delivery)
        .where(Delivery.merchant_id == merchant_id, Delivery.event_id.in_(ids))
        .order_by(Delivery.id)
    ).all()
    webhooks = browse.webhooks_of(deliveries)
    tried = stories.attempts_by_delivery(merchant_id, ids, SHOWN_ATTEMPTS)
    sent: dict[str, list[Sent]] = {}
    for delivery in deliveries:
        webhook = webhooks.get(delivery.webhook_id)
        sent.setdefault(delivery.event_id, []).append(
            Sent(delivery, webhook, delivery.shown_state(webhook), tried.get(delivery.id, []))
        )
    return sent


def _related(event: Event) -> Sequence[Event]:
    # One query for each event: a single one for all would read the thousand events of an import.
    found = stories.same_action(event, SHOWN_RELATED + EVENTS_ON_A_PAGE)
    record = (event.object_type, event.object_id)
    others = [other for other in found if (other.object_type, other.object_id) != record]
    return others[:SHOWN_RELATED]
