"""Deliveries: what is owed, and sending one again."""

from __future__ import annotations

from flask import Response, g

from portal.api import queries, reading, shapes
from portal.api.answers import answer, listed
from portal.api.blueprint import bp
from portal.api.idempotency import done_once
from portal.delivery import actions
from portal.logs import browse, filters


@bp.get("/deliveries")
def list_deliveries() -> Response:
    """A page of deliveries, newest first."""
    asked = queries.asked(filters.DELIVERIES)
    page = browse.deliveries(g.merchant_id, asked.values, asked.cursor, asked.limit)
    return listed((shapes.delivery(*row) for row in page.rows), page.next_cursor)


@bp.post("/deliveries/<delivery_id>/resend")
@done_once
def resend_delivery(delivery_id: str) -> Response:
    """Make one more attempt of a delivery as soon as possible."""
    reading.optional_body()
    again = actions.resend(g.merchant_id, delivery_id, reading.actor())
    return answer(shapes.delivery(again, browse.webhooks_of([again]).get(again.webhook_id)), 202)
