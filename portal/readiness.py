"""Whether an event could be stored now, found out by storing something."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from portal import refusals, schema
from portal.database_errors import FULL, LOCKED, Trouble
from portal.errors import Unavailable
from portal.extensions import LOCK_WAIT_MS, NEVER, db, writing, written_at
from portal.seldom import Seldom

KNOWN_SECONDS = 1.0
"""How long an answer stands: the database is written to no more often, whoever asks."""
PATIENCE_SECONDS = 1.0
"""How long a question waits for other writers. Events wait for longer, so a lock counts as trouble
once it has outlasted their patience too."""

_log = Seldom(logging.getLogger(__name__), refusals.SAID_SECONDS)
_STORE = sa.text("UPDATE alembic_version SET version_num = version_num RETURNING version_num")
"""Changes nothing, and yet is stored; and tells which schema there is."""


@dataclass
class _Known:
    """What this process found out last."""

    asked_at: float = NEVER
    trouble: Trouble | None = None
    locked_since: float | None = None
    mutex: threading.Lock = field(default_factory=threading.Lock)


def trouble() -> Trouble | None:
    """Why no event can be stored now; None when one can."""
    known: _Known = current_app.extensions.setdefault("portal_readiness", _Known())
    with known.mutex:
        if time.monotonic() - known.asked_at >= KNOWN_SECONDS:
            known.trouble = _ask(known)
            known.asked_at = time.monotonic()
    return known.trouble


def _ask(known: _Known) -> Trouble | None:
    started, refused = time.monotonic(), refusals.latest()
    found = _store()
    if found is not LOCKED:
        known.locked_since = None
        # On a full disk there may be room for this little, and for no event.
        return found or (refused if refused is FULL else None)
    if known.locked_since is None or written_at() > known.locked_since:
        known.locked_since = started
    lasts = time.monotonic() - known.locked_since
    return LOCKED if refused is LOCKED or lasts >= LOCK_WAIT_MS / 1_000 else None


def _store() -> Trouble | None:
    try:
        with writing(PATIENCE_SECONDS) as session:
            if db.engine.dialect.name == "postgresql":
                session.execute(sa.text(f"SET LOCAL lock_timeout = {PATIENCE_SECONDS * 1_000:.0f}"))
            revision = session.scalar(_STORE)
    except Unavailable as error:
        return _told(error)
    except SQLAlchemyError as error:
        refused = refusals.of(error)
        if refused is None:
            raise
        return _told(refused)
    return schema.trouble_of(revision)


def _told(refused: Unavailable) -> Trouble | None:
    _log.warn(refused.trouble, f"Not ready for events. {refusals.in_words(refused)}")
    return refused.trouble
