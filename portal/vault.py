"""Secrets at rest: encrypted with the portal's secret keys (MultiFernet, newest key first)."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from cryptography.fernet import Fernet, MultiFernet
from flask import current_app


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
