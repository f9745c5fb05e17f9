"""Attempts: the header log, and one attempt with its payload log."""

from __future__ import annotations

from flask import Response, g, jsonify

from portal import browse
from portal.api import filters, reading, shapes
from portal.api.blueprint import bp


@bp.get("/attempts")
def list_attempts() -> Response:
    """A page of the header log, newest first."""
    asked = filters.asked(filters.ATTEMPTS)
    page = browse.attempts(g.merchant.id, asked.values, asked.cursor, asked.limit)
    return jsonify(
        data=[shapes.attempt(row) for row in page.rows], next_cursor=page.next_cursor
    )
