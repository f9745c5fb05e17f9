"""Events: in, and out again from the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, g, request

from portal.api import idempotency, limits, queries, reading, shapes
from portal.api.answers import answer, listed
from portal.api.blueprint import bp
from portal.api.reading import MAX_BATCH_BODY, MAX_BODY
from portal.clock import DAY, now
from portal.errors import Conflict, FieldError, Invalid
from portal.events.ingest import MAX_BATCH, Accepted, ingest_events, likely_deliveries
from portal.fairness import places
from portal.fairness.courtesy import Pace
from portal.json_events import MAX_VALUES_OF_BATCH, parse_events
from portal.logs import browse, filters, stories
from portal.models import Event
from portal.people import periods

MAX_RELATED = 100
"""Related events of each kind in one answer."""
_PATIENCE_SECONDS = 5.0
"""How long a large batch waits for those of other merchants to be read."""


@bp.post("/events")
def create_events() -> Response:
    """Store one event or a batch of them; 202 means committed."""
    content = take(
        g.merchant_id,
        request.content_length or 0,
        lambda: reading.raw_body(MAX_BATCH_BODY),
        request.headers.get(idempotency.HEADER),
    )
    return answer(content, 202)


def take(
    merchant_id: int, declared: int, read: Callable[[], bytes], idempotency_key: str | None
) -> dict[str, Any]:
    """Store the event or the batch of a body, which `read` gives, and which was said to have so
    many bytes, 0 where nothing was said; the content of the answer. Raises what refuses it."""
    limits.admit_events(merchant_id, declared)
    raw = read()
    if len(raw) <= MAX_BODY:
        return _take(merchant_id, declared, raw, idempotency_key)
    # What is read of it takes many times its size of memory, though its values are counted.
    with places.held(places.BODY, merchant_id, _PATIENCE_SECONDS):
        return _take(merchant_id, declared, raw, idempotency_key)


def _take(
    merchant_id: int, declared: int, raw: bytes, idempotency_key: str | None
) -> dict[str, Any]:
    is_large = len(raw) > MAX_BODY
    value = parse_events(raw, MAX_VALUES_OF_BATCH, Pace().done) if is_large else parse_events(raw)
    if isinstance(value, dict) and "events" in value:
        batch = _batch(value)
        # Those beyond a batch are refused with it, and were no events.
        count = min(len(batch), MAX_BATCH)
        limits.count_events(merchant_id, max(0, count - declared / limits.EVENT_BYTES))
        answers = _ingest(merchant_id, batch, idempotency_key, batch=True)
        return {"data": [_accepted(one) for one in answers]}
    if is_large:
        raise reading.too_large_event()
    limits.count_events(merchant_id, max(0, 1 - declared / limits.EVENT_BYTES))
    (accepted,) = _ingest(merchant_id, [value], idempotency_key, batch=False)
    return _accepted(accepted)


def _ingest(
    merchant_id: int, events: list[Any], idempotency_key: str | None, *, batch: bool
) -> list[Accepted]:
    # Before they are stored: those that come at the same moment are to find it counted.
    reserved, added = likely_deliveries(merchant_id, events), 0
    limits.count_deliveries(merchant_id, reserved)
    try:
        answers = _stored(merchant_id, events, idempotency_key, batch=batch)
        added = sum(one.added for one in answers)
    finally:
        limits.count_deliveries(merchant_id, added - reserved)
    return answers


def _stored(
    merchant_id: int, events: list[Any], idempotency_key: str | None, *, batch: bool
) -> list[Accepted]:
    key = idempotency.key_of(idempotency_key)
    if key is None:
        return ingest_events(merchant_id, events, batch=batch)
    try:
        return ingest_events(merchant_id, idempotency.with_ids(events, key), batch=batch)
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
    page = browse.EVENTS.page(g.merchant_id, asked.values, asked.cursor, asked.limit)
    return listed((shapes.event(row) for row in page.rows), page.next_cursor)


@bp.get("/events/<event_id>")
def show_event(event_id: str) -> Response:
    """One event, with its record data while that is kept."""
    reading.parameters()
    event = browse.get_event(g.merchant_id, event_id)
    expires_at = event.received_at + periods.payload_days(reading.merchant()) * DAY
    payload = stories.payload_of(event) if expires_at > now() else None
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
