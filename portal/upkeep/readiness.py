"""Whether an event could be stored now, found out by storing something."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass, field

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from portal import runtime
from portal.database_errors import FULL, LOCKED, SILENT, Trouble
from portal.db import room, schema
from portal.db.session import LOCK_WAIT_MS, NEVER, db, writing, written_at
from portal.errors import Unavailable
from portal.journal.seldom import Seldom
from portal.upkeep import refusals

KNOWN_SECONDS = 1.0
"""How long an answer stands: the database is written to no more often, whoever asks."""
PATIENCE_SECONDS = 1.0
"""How long a question waits for other writers. Events wait for longer, so a lock counts as trouble
once it has outlasted their patience too."""
SAME_LOCK_SECONDS = 60.0
"""A lock is the one for which events were refused so long ago, where nothing was written since."""
ANSWER_SECONDS = 1.5
"""How long who asks waits for what is found out. It may take longer: to connect, or where all
connections of this process are in use."""

_log = Seldom(logging.getLogger(__name__), refusals.SAID_SECONDS)
_STORE = sa.text("UPDATE alembic_version SET version_num = version_num RETURNING version_num")
"""Changes nothing, and yet is stored; and tells which schema there is."""
_AS_AN_EVENT_DOES = [
    sa.text("SELECT 1 FROM api_key, merchant, webhook LIMIT 0"),
    *(
        sa.text(f"INSERT INTO {name} SELECT * FROM {name} WHERE false")
        for name in ("event", "event_payload", "delivery")
    ),
]
"""Waits for whatever the storing of an event would wait for and may do what that may, and leaves
nothing."""


@dataclass
class Readiness:
    """What one process found out last."""

    answer: Future[Trouble | None] | None = None
    answered_at: float = NEVER
    trouble: Trouble | None = None
    locked_since: float | None = None
    mutex: threading.Lock = field(default_factory=threading.Lock)


def trouble() -> Trouble | None:
    """Why no event can be stored now; None when one can."""
    known = runtime.part(Readiness)
    with known.mutex:
        answer = known.answer
        if answer is None or (
            answer.done() and time.monotonic() - known.answered_at >= KNOWN_SECONDS
        ):
            answer = known.answer = Future()
            app = current_app._get_current_object()  # type: ignore[attr-defined]
            threading.Thread(
                target=_find_out, args=(app, known, answer), name="readiness", daemon=True
            ).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except NoAnswer:
        return known.trouble or SILENT


def _find_out(app: Flask, known: Readiness, answer: Future[Trouble | None]) -> None:
    """Ask for everybody who waits for this answer."""
    try:
        with app.app_context():
            known.trouble = _ask(known)
    except Exception as error:  # noqa: BLE001 - whoever asked has it
        known.answered_at = time.monotonic()
        answer.set_exception(error)
    else:
        known.answered_at = time.monotonic()
        answer.set_result(known.trouble)


def _ask(known: Readiness) -> Trouble | None:
    started, refused = time.monotonic(), refusals.latest()
    was_locked = refusals.latest(SAME_LOCK_SECONDS) is LOCKED
    found = _store()
    if found is not LOCKED:
        known.locked_since = None
        # On a full disk there may be room for this little, and for no event.
        return found or (refused if refused is FULL else None)
    if known.locked_since is None or written_at() > known.locked_since:
        known.locked_since = started
    lasts = time.monotonic() - known.locked_since
    return LOCKED if was_locked or lasts >= LOCK_WAIT_MS / 1_000 else None


def _store() -> Trouble | None:
    try:
        room.check(current_app.config["PORTAL"])
        with writing(PATIENCE_SECONDS) as session:
            if db.engine.dialect.name == "postgresql":
                session.execute(sa.text(f"SET LOCAL lock_timeout = {PATIENCE_SECONDS * 1_000:.0f}"))
            trouble = schema.trouble_of(session.scalar(_STORE))
            if trouble is None and db.engine.dialect.name == "postgresql":
                # There each table has locks and rights of its own.
                for statement in _AS_AN_EVENT_DOES:
                    session.execute(statement)
    except Unavailable as error:
        return _told(error)
    except SQLAlchemyError as error:
        refused = refusals.of(error)
        if refused is None:
            raise
        return _told(refused)
    return trouble


def _told(refused: Unavailable) -> Trouble | None:
    _log.warn(refused.trouble, f"Not ready for events. {refusals.in_words(refused)}")
    return refused.trouble
