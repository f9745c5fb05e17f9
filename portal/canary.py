"""Whether the secret key is the one that the database was filled with, asked at each start.

With another key every secret is unreadable: no delivery could be signed and nobody's second factor
checked, while everything seems to run. A sealed word in the database tells it at once.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import scoped_session

from portal import secret_key, vault
from portal.config import Config, SettingError
from portal.extensions import Base, reading, table, writing
from portal.models import Canary, Webhook

_WORD = "webhook-portal"
_ID = 1
_LOOKED_AT = 20
"""Secrets of a database without the word, of which the key must open one."""


def check() -> None:
    """Refuse a key that does not open the database; where the word is not there yet, put it there
    when the key opens what is stored. A database without its tables has nothing to open.

    Raises SettingError, and Unavailable when the database cannot be asked now.
    """
    with reading() as session:
        if not sa.inspect(session.connection()).has_table(Canary.__tablename__):
            return
        token = session.scalar(sa.select(Canary.word_token).where(Canary.id == _ID))
        tokens = [token] if token is not None else _some_secrets(session)
    if tokens and not any(map(vault.opens, tokens)):
        raise SettingError(_wrong_key())
    if token is None:
        _put()


def refuse_new_key() -> None:
    """Refuse to go on with a new key where something is stored under another one.

    Raises SettingError, and Unavailable when the database cannot be asked now.
    """
    with reading() as session:
        there = sa.inspect(session.connection())
        for one in Base.metadata.sorted_tables:
            sealed = [column for column in one.columns if isinstance(column.type, vault.Token)]
            if not sealed or not there.has_table(one.name):
                continue
            names = {column["name"] for column in there.get_columns(one.name)}
            for column in sealed:
                if column.name in names and session.scalar(
                    sa.select(sa.literal(1)).select_from(one).where(column.is_not(None)).limit(1)
                ):
                    raise SettingError(_lost_key())


def _some_secrets(session: scoped_session[Any]) -> list[str]:
    of = table(Webhook).c
    return list(session.scalars(sa.select(of.secret_token).order_by(of.id).limit(_LOOKED_AT)))


def _put() -> None:
    try:
        with writing() as session:
            session.add(Canary(id=_ID, word_token=vault.encrypt(_WORD)))
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
        f"{path} back from your backup, or give the key as PORTAL_SECRET_KEY. No new one is made."
    )
