"""When a key was last used: written at most once a minute, and never at the cost of a request."""

from __future__ import annotations

import math
import time

import sqlalchemy as sa
from flask import Response, current_app, g
from sqlalchemy.exc import DBAPIError

from portal import runtime
from portal.api.blueprint import bp
from portal.clock import MINUTE, SECOND, now
from portal.db.session import writing
from portal.errors import Unavailable
from portal.models import ApiKey


class KeyUse:
    """What one process has written of it."""

    def __init__(self) -> None:
        self.written_at: dict[str, float] = {}
        """By the key's ID, on the process's clock; or when it saw that another process had."""


@bp.before_request
def remember() -> None:
    """Read the key's row while it is loaded: a stage function's transaction expires it."""
    if "key" in g:
        g.key_used = (g.key.id, g.key.last_used_at or 0)


@bp.after_request
def note_use(response: Response) -> Response:
    """Write the moment when the last one is over a minute old; what fails is tried again later.

    Only after success: a database that refuses the request's own write is not asked again.
    """
    if response.status_code < 400 and "key_used" in g:
        note(*g.key_used)
    return response


def note(key_id: str, last_used_at: int) -> None:
    """Write that a key is in use, which was noted last at this moment (Unix µs)."""
    clock, written_at = time.monotonic(), runtime.part(KeyUse).written_at
    if clock - written_at.get(key_id, -math.inf) < MINUTE / SECOND:
        return
    moment = now()
    written_at[key_id] = clock
    if moment - last_used_at < MINUTE:
        return
    try:
        with writing() as session:
            session.execute(
                sa.update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=moment)
            )
    except (DBAPIError, Unavailable) as error:
        current_app.logger.warning("last use of key %s not noted: %s", key_id, error)
