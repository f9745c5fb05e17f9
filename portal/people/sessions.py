"""Sign-ins: each is a row, so that it can be listed, and ended without the others."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from flask import current_app

from portal import clock_watch
from portal.audit.log import actor_of, record
from portal.clock import HOUR, MINUTE, now
from portal.db.session import db, writing
from portal.errors import NotFound
from portal.ids import digest_of
from portal.models import User, UserSession
from portal.models.locks import lock_user

MAX_SESSIONS = 100
"""Of one user: a program may sign in again for each request, and the more sign-ins there are, the
longer it takes to show them, and to end them, for which the database is locked."""
NOTED_EVERY = 10 * MINUTE
"""How often the use of a sign-in is noted."""


def begin(user: User, address: str = "", agent: str = "") -> str:
    """Sign in a user whose password (and second factor) the caller has checked. Returns the token
    for the cookie. `address` and `agent` are shown in the list.

    Past MAX_SESSIONS, the one that was not used for longest ends. Raises Conflict if the password
    was changed, or the account disabled, since the check.
    """
    checked = user.password_hash
    is_sure = not clock_watch.is_doubted()
    with writing() as session:
        lock_user(session, user, checked)
        if is_sure:
            session.execute(sa.delete(UserSession).where(UserSession.created_at <= _oldest()))
        too_many = session.scalars(
            sa.select(UserSession.id)
            .where(UserSession.user_id == user.id)
            .order_by(UserSession.used_at.desc(), UserSession.id.desc())
            .offset(MAX_SESSIONS - 1)
        ).all()
        if too_many:
            session.execute(sa.delete(UserSession).where(UserSession.id.in_(too_many)))
        row, token = UserSession.make(user.id, address, agent)
        session.add(row)
        record(session, actor_of(user), "user.signed_in", user.email)
    return token


def find(token: str) -> tuple[UserSession, User] | None:
    """The sign-in of a token, and its user; None if it has ended or is over PORTAL_SESSION_HOURS
    old, or if the account is disabled."""
    found = db.session.execute(
        sa.select(UserSession, User)
        .join(User, User.id == UserSession.user_id)
        .where(UserSession.digest == digest_of(token), UserSession.created_at > _oldest())
    ).first()
    return (found[0], found[1]) if found and found[1].is_active else None


def note_use(session_id: str, address: str) -> None:
    """Note that a sign-in is in use, and from which address."""
    with writing() as session:
        session.execute(
            sa.update(UserSession)
            .where(UserSession.id == session_id)
            .values(used_at=now(), address=address[:45])
        )


def sessions(user: User) -> Sequence[UserSession]:
    """A user's sign-ins that have not ended, the last used first."""
    return db.session.scalars(
        sa.select(UserSession)
        .where(UserSession.user_id == user.id, UserSession.created_at > _oldest())
        .order_by(UserSession.used_at.desc(), UserSession.id.desc())
    ).all()


def end(user: User, session_id: str) -> None:
    """End one of a user's sign-ins at once. Raises NotFound."""
    with writing() as session:
        row = session.scalar(
            sa.select(UserSession).where(
                UserSession.user_id == user.id, UserSession.id == session_id
            )
        )
        if row is None:
            raise NotFound("This sign-in has ended already.")
        session.delete(row)
        record(session, actor_of(user), "user.signed_out", user.email)


def end_others(user: User, session_id: str) -> None:
    """End all of a user's sign-ins except this one."""
    with writing() as session:
        ended = session.scalars(
            sa.delete(UserSession)
            .where(UserSession.user_id == user.id, UserSession.id != session_id)
            .returning(UserSession.id)
        ).all()
        if ended:
            record(session, actor_of(user), "user.signed_out", user.email, others=True)


def _oldest() -> int:
    """When a sign-in that is just ending for its age began, in Unix µs."""
    hours: int = current_app.config["PORTAL"].session_hours
    return now() - hours * HOUR
