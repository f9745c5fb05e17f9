"""Secrets at rest: encrypted with the portal's secret keys (MultiFernet, newest key first)."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from flask import current_app


class Token(sa.types.TypeDecorator[str]):
    """The type of a column that holds what `encrypt` made, so that portal.resealing finds it."""

    impl = sa.Text
    cache_ok = True


@lru_cache(maxsize=8)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    def fernet(key: str) -> Fernet:
        digest = hashlib.sha256(b"webhook-portal vault\0" + key.encode()).digest()
        return Fernet(base64.urlsafe_b64encode(digest))

    return MultiFernet([fernet(key) for key in keys])


def encrypt(text: str) -> str:
    """The text as a Fernet token under the newest of the portal's secret keys."""
    return _box(current_app.config["PORTAL"].secret_keys).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """The text of a token made by `encrypt`; raises cryptography's InvalidToken when no
    current key fits."""
    return _box(current_app.config["PORTAL"].secret_keys).decrypt(token.encode()).decode()


def renew(token: str) -> str | None:
    """A token of the same text under the newest key; None when it is under that already. Raises
    cryptography's InvalidToken when no current key fits."""
    keys = current_app.config["PORTAL"].secret_keys
    try:
        _box(keys[:1]).decrypt(token.encode())
    except InvalidToken:
        return _box(keys).rotate(token.encode()).decode()
    return None
