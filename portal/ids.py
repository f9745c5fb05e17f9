"""IDs: a prefix that says what it is, then a UUIDv7 (RFC 9562), so that IDs sort by time. And
tokens: what a link or a cookie holds, of which only a digest is kept."""

from __future__ import annotations

import hashlib
import secrets

import uuid_utils

from portal.clock import MILLISECOND

TOKEN_BYTES = 32


def new_id(prefix: str) -> str:
    """A fresh time-ordered ID such as `req_019…` (32 hex digits after the prefix)."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def id_at(prefix: str, moment: int) -> str:
    """The least ID of `new_id` that could be made at a moment (Unix µs) or later: a UUIDv7 starts
    with its Unix milliseconds (RFC 9562, 5.7)."""
    return f"{prefix}_{max(0, moment) // MILLISECOND:012x}"


def request_id_at(moment: int) -> str:
    """The least Request ID that could be made at a moment (Unix µs) or later."""
    return id_at("req", moment)


def moment_of_request_id(request_id: str) -> int:
    """When a Request ID was made, in Unix µs to the millisecond."""
    return int(request_id[4:16], 16) * MILLISECOND


def new_token() -> str:
    """256 random bits, fit for an address."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> str:
    """What is kept of a token: its SHA-256 (hex). It is random, so a plain hash cannot be
    reversed."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
