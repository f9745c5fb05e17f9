"""Events: in, and out again from the log."""

from __future__ import annotations

from typing import Any

from flask import Response, g

from portal import strict_json
from portal.api import idempotency, queries, reading, shapes
from portal.api.answers import answer, listed
from portal.api.blueprint import bp
from portal.api.reading import MAX_BATCH_BODY, MAX_BODY
from portal.clock import DAY, now
from portal.errors import Conflict, FieldError, Invalid
from portal.events.ingest import Accepted, ingest_events
from portal.extensions import db
from portal.logs import browse, filters, stories
from portal.models import Event, EventPayload
from portal.people import periods

MAX_RELATED = 100
"""Related events of each kind in one answer."""


@bp.post("/events")
def create_events() -> Response:
    """Store one event or a batch of them; 202 means committed."""
    raw = reading.raw_body(MAX_BATCH_BODY)
    value = strict_json.parse_events(raw)
    if isinstance(value, dict) and "events" in value:
        answers = _ingest(_batch(value), batch=True)
        return answer({"data": [_accepted(one) for one in answers]}, 202)
    if len(raw) > MAX_BODY:
        raise reading.too_large_event()
    (accepted,) = _ingest([value], batch=False)
    return answer(_accepted(accepted), 202)


def _ingest(events: list[Any], *, batch: bool) -> list[Accepted]:
    key = idempotency.key_given()
    if key is None:
        return ingest_events(g.merchant_id, events, batch=batch)
    try:
        return ingest_events(g.merchant_id, idempotency.with_ids(events, key), batch=batch)
    except Conflict as conflict:
        raise idempotency.reused(conflict) from conflict


def _batch(value: dict[str, Any]) -> list[Any]:
    reading.refuse_unknown(value, ["events"])
    if not isinstance(value["events"], list):
        raise Invalid([FieldError("/events", "events is a list of events: [{…}, …].")])
    return value["events"]


def _accepted(accepted: Accepted) -> dict[str, Any]:
    return {"id": accepted.id, "deliveries": accepted.deliveries}


@bp.get("/events")
def list_events() -> Response:
    """A page of the event log, newest first."""
    asked = queries.asked(filters.EVENTS)
    page = browse.events(g.merchant_id, asked.values, asked.cursor, asked.limit)
    return listed((shapes.event(row) for row in page.rows), page.next_cursor)


@bp.get("/events/<event_id>")
def show_event(event_id: str) -> Response:
    """One event, with its record data while that is kept."""
    reading.parameters()
    event = browse.get_event(g.merchant_id, event_id)
    expires_at = event.received_at + periods.payload_days(reading.merchant()) * DAY
    payload = None
    if expires_at > now():
        payload = db.session.get(EventPayload, (event.merchant_id, event.id))
    return answer(shapes.event_with_record(event, payload, expires_at))


@bp.get("/events/<event_id>/related")
def related_events(event_id: str) -> Response:
    """The newest other events of the same record and of the same action."""
    reading.parameters()
    event = browse.get_event(g.merchant_id, event_id)
    relations: dict[str, list[str]] = {}
    found: dict[str, Event] = {}
    for relation, related in (
        ("same_object", stories.same_record(event, MAX_RELATED)),
        ("same_action", stories.same_action(event, MAX_RELATED)),
    ):
        for row in related:
            found[row.id] = row
            relations.setdefault(row.id, []).append(relation)
    rows = sorted(found.values(), key=lambda row: (row.received_at, row.id), reverse=True)
    return listed(shapes.event(row) | {"relation": relations[row.id]} for row in rows)


@bp.get("/events/<event_id>/deliveries")
def event_deliveries(event_id: str) -> Response:
    """What an event was owed to, and what became of it there."""
    reading.parameters()
    event = browse.get_event(g.merchant_id, event_id)
    return listed(shapes.delivery(*row) for row in stories.event_deliveries(event))
