"""The catalogue of event types, and a merchant's own types in it."""

from __future__ import annotations

from flask import Response, g, jsonify

from portal import catalogue
from portal.api import reading, shapes
from portal.api.blueprint import bp


@bp.get("/event-types")
def list_event_types() -> Response:
    """Every type that the merchant may send, by name."""
    reading.parameters()
    known = catalogue.known_types(g.merchant.id)
    return jsonify(
        data=[shapes.event_type(known[name]) for name in sorted(known)], next_cursor=None
    )


@bp.post("/event-types")
def create_event_type() -> tuple[Response, int]:
    """Add a type to the merchant's own."""
    added = catalogue.add_type(g.merchant, reading.body(), reading.actor())
    return jsonify(shapes.event_type(added)), 201
