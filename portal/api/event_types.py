"""The catalogue of event types, and a merchant's own types in it."""

from __future__ import annotations

from flask import Response, g

from portal.api import reading, shapes
from portal.api.answers import answer, listed
from portal.api.blueprint import bp
from portal.api.idempotency import done_once
from portal.events import catalogue


@bp.get("/event-types")
def list_event_types() -> Response:
    """Every type that the merchant may send, in the catalogue's order."""
    reading.parameters()
    known = catalogue.known_types(g.merchant_id).values()
    return listed(shapes.event_type(one) for one in known)


@bp.post("/event-types")
@done_once
def create_event_type() -> Response:
    """Add a type to the merchant's own."""
    added = catalogue.add_type(g.merchant_id, reading.body_with_texts(), reading.actor())
    return answer(shapes.event_type(added), 201)
