"""Whether the secret key is the one that the database was filled with, asked at each start.

With another key every secret is unreadable: no delivery could be signed and nobody's second factor
checked, while everything seems to run. A sealed word in the database tells it at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from portal import vault
from portal.config import Config, SettingError
from portal.db.session import Base, reading, writing
from portal.models import SealedWord
from portal.settings import secret_key

_WORD = "webhook-portal"
_ID = 1
_LOOKED_AT = 1_000
"""How many of each kind of secret are tried in a database without the word."""


def check() -> None:
    """Refuse a key that does not open the database. Where the word is not there yet, put it there,
    unless something is stored of which the key opens nothing: a portal that lost a key once, and
    was given its secrets anew, has some that no key opens. A database without its tables has
    nothing to open.

    Raises SettingError, and Unavailable when the database cannot be asked now.
    """
    with reading() as session:
        if not sa.inspect(session.connection()).has_table(SealedWord.__tablename__):
            return
        token = session.scalar(sa.select(SealedWord.word_token).where(SealedWord.id == _ID))
        fits = _opens_something(session) if token is None else vault.opens(token)
    if not fits:
        raise SettingError(_wrong_key())
    if token is None:
        _put()


def refuse_new_key() -> None:
    """Refuse to go on with a new key where something is stored under another one.

    Raises SettingError, and Unavailable when the database cannot be asked now.
    """
    with reading() as session:
        for column in _sealed_columns(session):
            if session.scalar(sa.select(sa.literal(1)).where(column.is_not(None)).limit(1)):
                raise SettingError(_lost_key())


def _sealed_columns(session: scoped_session[Session]) -> Iterator[sa.Column[Any]]:
    """Every column of secrets that the database has; an older one has not all of them."""
    there = sa.inspect(session.connection())
    for one in Base.metadata.sorted_tables:
        sealed = [column for column in one.columns if isinstance(column.type, vault.Token)]
        if sealed and there.has_table(one.name):
            names = {column["name"] for column in there.get_columns(one.name)}
            yield from (column for column in sealed if column.name in names)


def _opens_something(session: scoped_session[Session]) -> bool:
    """Whether the key opens one of the secrets, or there is none. The newest are tried: what was
    stored last was stored under the key in use; a deleted webhook's secret is nobody's any more."""
    is_any = False
    for column in _sealed_columns(session):
        of = column.table.c
        query = sa.select(column).where(column.is_not(None)).limit(_LOOKED_AT)
        if "deleted_at" in of:
            query = query.where(of.deleted_at.is_(None))
        if "created_at" in of:
            query = query.order_by(of.created_at.desc())
        for token in session.scalars(query):
            if vault.opens(token):
                return True
            is_any = True
    return not is_any


def _put() -> None:
    try:
        with writing() as session:
            session.add(SealedWord(id=_ID, word_token=vault.encrypt(_WORD)))
    except IntegrityError:
        # Another process that starts put it there; it has asked as this one did.
        check()


def _wrong_key() -> str:
    config: Config = current_app.config["PORTAL"]
    path = secret_key.path_in(config.data_dir)
    return (
        "The secret key is not the one that this database was filled with, so none of its secrets "
        f"can be opened. Put the file {path} back from your backup, or give the old key in "
        'PORTAL_SECRET_KEY (beside a new one: "new key,old key").'
    )


def _lost_key() -> str:
    config: Config = current_app.config["PORTAL"]
    path = secret_key.path_in(config.data_dir)
    return (
        f"The secret key is missing, and no other opens what this database holds: put the file "
        f"{path} back from your backup, copy it from the machine that made the database, or give "
        "the key as PORTAL_SECRET_KEY. No new one is made."
    )
