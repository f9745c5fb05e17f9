"""Secrets at rest: encrypted with the portal's secret keys (MultiFernet, newest key first)."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from flask import current_app

from portal.errors import PortalError


class Unreadable(PortalError):
    """None of the portal's secret keys opens a stored value (409). It is that value's failure and
    nobody else's: whoever opens several goes on with the others."""

    status = 409
    title = "A stored secret cannot be opened"

    def __init__(self) -> None:
        super().__init__(
            "A secret that is stored here was encrypted under a key that the portal does not have. "
            "Give it anew; or an operator adds that key to PORTAL_SECRET_KEY."
        )


class Token(sa.types.TypeDecorator[str]):
    """The type of a column that holds what `encrypt` made, so that portal.upkeep.resealing finds
    it."""

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
    """The text of a token made by `encrypt`; raises Unreadable when no current key fits."""
    try:
        return _box(current_app.config["PORTAL"].secret_keys).decrypt(token.encode()).decode()
    except (InvalidToken, UnicodeError):
        raise Unreadable from None


def opens(token: str) -> bool:
    """Whether a current key opens a token."""
    try:
        decrypt(token)
    except Unreadable:
        return False
    return True


def renew(token: str) -> str | None:
    """A token of the same text under the newest key; None when it is under that already. Raises
    Unreadable when no current key fits."""
    keys = current_app.config["PORTAL"].secret_keys
    try:
        _box(keys[:1]).decrypt(token.encode())
        return None
    except InvalidToken:
        pass
    try:
        return _box(keys).rotate(token.encode()).decode()
    except InvalidToken:
        raise Unreadable from None
