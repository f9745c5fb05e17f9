"""Tries to get into an account that were refused: where they came from for the operator's log
(portal.journal.security_log), and which account was tried for the audit log.

Only accounts that exist have entries, and each at most one of a kind in EVERY, so that who tries
many passwords fills nothing. For others a turn to write is taken too, and nothing is written: how
many turns there were is in /metrics, and how long one is waited for can be measured. Writing takes
some milliseconds, which might tell who has an account: whoever measures that has one answer in that
time to go by.
"""

from __future__ import annotations

from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session

from portal.audit.log import record
from portal.clock import MINUTE, now
from portal.db.session import db, writing
from portal.errors import Unavailable
from portal.journal import security_log
from portal.models import AuditEntry, User
from portal.people.rules import email_errors

Kind = Literal["sign_in_refused", "second_factor_refused", "password_refused"]
ACTIONS = tuple(f"user.{kind}" for kind in get_args(Kind))
"""The entries that are made here."""
EVERY = 15 * MINUTE
PATIENCE_SECONDS = 0.5
"""How long the answer may wait for the entry: it is a refusal also where nothing can be written."""


def note_refused(kind: Kind, email: str) -> None:
    """Note for the operator that somebody was refused (portal.journal.security_log), and for staff
    that it was who tried to be the user with an address, unless that was noted a moment ago."""
    security_log.note(kind)
    if email_errors(email):
        # Nobody has it; and PostgreSQL takes no NUL.
        return
    action = f"user.{kind}"
    try:
        with writing(PATIENCE_SECONDS) as session:
            known = session.scalar(sa.select(User.id).where(User.email == email))
            if known is not None and not was_noted(session, action, email):
                record(session, "portal", action, email)
    except Unavailable:
        # Said by whoever must write.
        db.session.rollback()


def was_noted(session: Session | scoped_session[Session], action: str, email: str) -> bool:
    """Whether there is an entry in the audit log, not older than EVERY, of such a try to be the
    user with an address."""
    moment = now()
    return (
        session.scalar(
            sa.select(AuditEntry.id)
            .where(
                AuditEntry.action == action,
                AuditEntry.target == email,
                # What lies further ahead was noted before the clock was set back.
                AuditEntry.at > moment - EVERY,
                AuditEntry.at < moment + EVERY,
            )
            .limit(1)
        )
        is not None
    )
