"""Refused tries to get into an account: the operator's log has where they came from
(portal.journal.security_log), and the audit log which account they were for.

Only accounts that exist have entries, and at most one of a kind in EVERY, so that trying many
passwords fills nothing. For other addresses a turn to write is taken too, and nothing is written:
/metrics counts the turns, and the wait for one can be measured. Writing itself takes some
milliseconds, which might show that an account exists; but it can be measured only once in EVERY.
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
"""The entries that are made in the audit log."""
EVERY = 15 * MINUTE
PATIENCE_SECONDS = 0.5
"""How long the answer waits for the entry: it is a refusal even if nothing can be written."""


def note_refused(kind: Kind, email: str) -> None:
    """Note a refusal for the operator (portal.journal.security_log), and for staff the account that
    it was for, unless that was noted a moment ago."""
    security_log.note(kind)
    if email_errors(email):
        # Nobody has such an address, and PostgreSQL accepts no NUL.
        return
    action = f"user.{kind}"
    try:
        with writing(PATIENCE_SECONDS) as session:
            known = session.scalar(sa.select(User.id).where(User.email == email))
            if known is not None and not was_noted(session, action, email):
                record(session, "portal", action, email)
    except Unavailable:
        # Whoever has to write reports it.
        db.session.rollback()


def was_noted(session: Session | scoped_session[Session], action: str, email: str) -> bool:
    """Whether the audit log has an entry, not older than EVERY, of such a try for the account with
    this address."""
    moment = now()
    return (
        session.scalar(
            sa.select(AuditEntry.id)
            .where(
                AuditEntry.action == action,
                AuditEntry.target == email,
                # An entry further ahead was made before the clock was set back.
                AuditEntry.at > moment - EVERY,
                AuditEntry.at < moment + EVERY,
            )
            .limit(1)
        )
        is not None
    )
