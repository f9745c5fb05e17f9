"""How SQLAlchemy is to connect to the database of an address."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from portal.db.session import GONE_SECONDS, LOCK_WAIT_MS

CONNECT_SECONDS = 3


def engine_settings(database_url: str, threads: int) -> dict[str, Any]:
    """SQLAlchemy's settings for a PORTAL_DATABASE_URL, in a process of so many threads; what the
    URL says itself is left as it is."""
    # What a statement was given is the record of an event, or a secret; errors go into the log.
    settings: dict[str, Any] = {"hide_parameters": True}
    address = sa.make_url(database_url)
    if address.database not in (None, "", ":memory:"):
        # A request has one connection, and for a moment a second one for its key.
        settings |= {
            "pool_size": threads,
            "max_overflow": threads,
            "pool_timeout": LOCK_WAIT_MS / 1_000,
        }
    if address.get_backend_name() == "postgresql":
        wanted: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": GONE_SECONDS * 1_000,
            "keepalives_idle": GONE_SECONDS // 3,
            "keepalives_interval": GONE_SECONDS // 3,
            "keepalives_count": 2,
            # Whatever the environment says: text comes and goes as UTF-8.
            "client_encoding": "utf8",
        }
        if _has_several_hosts(address):
            # Of several servers only the primary is of use. Of one alone pages can still be read.
            wanted["target_session_attrs"] = "read-write"
        settings["connect_args"] = {
            name: value for name, value in wanted.items() if name not in address.query
        }
    return settings


def _has_several_hosts(address: sa.URL) -> bool:
    named = address.query.get("host", ())
    hosts = [named] if isinstance(named, str) else [*named]
    return len(hosts) > 1 or any("," in host for host in [*hosts, address.host or ""])
