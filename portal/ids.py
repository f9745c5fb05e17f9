"""IDs: a prefix that says what it is, then a UUIDv7 (RFC 9562), so that IDs sort by time."""

from __future__ import annotations

import uuid_utils


def new_id(prefix: str) -> str:
    """A fresh time-ordered ID such as `req_019…` (32 hex digits after the prefix)."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"
