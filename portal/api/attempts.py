"""Attempts: the header log, and one attempt with its payload log."""

from __future__ import annotations

from flask import Response, g

from portal.api import queries, reading, shapes
from portal.api.answers import answer, listed
from portal.api.blueprint import bp
from portal.logs import browse, filters, stories


@bp.get("/attempts")
def list_attempts() -> Response:
    """A page of the header log, newest first."""
    asked = queries.asked(filters.ATTEMPTS)
    page = browse.ATTEMPTS.page(g.merchant_id, asked.values, asked.cursor, asked.limit)
    return listed((shapes.attempt(row) for row in page.rows), page.next_cursor)


@bp.get("/attempts/<request_id>")
def show_attempt(request_id: str) -> Response:
    """One attempt; what was sent and what came back while it is kept."""
    reading.parameters()
    return answer(shapes.attempt_detail(stories.attempt_detail(g.merchant_id, request_id)))
