"""The name of this installation, which is in every name of its own in Redis."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from portal import runtime
from portal.db.session import db, insert_into, table, unavailable_when_away, writing
from portal.models import Installation


class KnownName:
    """The name, as this process has read it."""

    text: str | None = None


def installation() -> str:
    """The name of this installation, made when it is first asked for and kept in its database.

    Raises Unavailable when the database cannot be read now.
    """
    known = runtime.part(KnownName)
    if known.text is None:
        known.text = _installation() or _new_installation()
    return known.text


def _installation() -> str | None:
    # Not the session, which may be at work.
    with unavailable_when_away(), db.engine.connect() as connection:
        return connection.scalar(sa.select(Installation.name).where(Installation.id == 1))


def _new_installation() -> str:
    with writing() as session:
        # Of several processes that make it at once, the first one's stays.
        session.execute(
            insert_into(session, table(Installation))
            .values(id=1, name=secrets.token_hex(4))
            .on_conflict_do_nothing()
        )
        return str(session.scalar(sa.select(Installation.name).where(Installation.id == 1)))


def key(*parts: object) -> str:
    """A name in Redis that is this installation's alone. Raises Unavailable."""
    return ":".join(map(str, ("portal", installation(), *parts)))
