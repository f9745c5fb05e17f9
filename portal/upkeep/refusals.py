"""Why the portal refuses what it is sent: said to the sender, and to who runs it, in the log."""

from __future__ import annotations

import logging
import time

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

from portal import runtime
from portal.database_errors import COLLIDED, MISSING, Trouble, reason, trouble_of
from portal.db import schema
from portal.db.session import BUSY, UNUSABLE, written_at
from portal.errors import NotFound, Unavailable
from portal.journal.seldom import Seldom

SAID_SECONDS = 10.0
"""How often a cause is said in the log, with how many requests were refused meanwhile."""
REMEMBERED_SECONDS = 10.0
"""For how long a process whose last write was refused is not ready to take another."""

DELETED = (ObjectDeletedError, StaleDataError)
"""What is raised where somebody has deleted what a request is about while it was answered."""

_log = Seldom(logging.getLogger(__name__), SAID_SECONDS)


class Refusals:
    """Those of one process."""

    def __init__(self) -> None:
        self.last: tuple[Trouble | None, float] = None, 0.0
        """Why the database was the reason last, and when."""


def of(error: SQLAlchemyError) -> Unavailable | None:
    """What to answer to an error that is the database's own state; None for a defect."""
    trouble = trouble_of(error)
    if trouble is MISSING:
        # A table that is not there, in a schema that is as it should be, is a defect.
        trouble = _schema_trouble()
    if trouble is None:
        return None
    refused = Unavailable(BUSY if trouble.passes else UNUSABLE, trouble)
    refused.__cause__ = error
    return refused


def deleted() -> NotFound:
    """What to answer to DELETED."""
    return NotFound("It was deleted at this very moment.")


def _schema_trouble() -> Trouble | None:
    try:
        return schema.trouble()
    except SQLAlchemyError as error:
        return trouble_of(error)


def note(refused: Unavailable) -> None:
    """Say in the log why something was refused; where the database is the reason."""
    if refused.trouble is None:
        return
    if refused.trouble is not COLLIDED:
        runtime.part(Refusals).last = refused.trouble, time.monotonic()
    _log.warn(refused.trouble, f"Refused a request. {in_words(refused)}")


def in_words(refused: Unavailable) -> str:
    """The cause, with what the database's driver says of it."""
    sentence = refused.trouble.sentence if refused.trouble else refused.detail
    return f"{sentence} ({reason(refused.__cause__)})" if refused.__cause__ else sentence


def latest(seconds: float = REMEMBERED_SECONDS) -> Trouble | None:
    """Why this process has refused something in so many seconds, unless it has written since."""
    trouble, at = runtime.part(Refusals).last
    is_recent = time.monotonic() - at < seconds and at > written_at()
    return trouble if is_recent else None
