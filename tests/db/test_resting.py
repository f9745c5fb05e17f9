"""A connection that rested is tried before it is used, and one that was just used is not."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask

from portal.db.session import RESTED_SECONDS, db, reading

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def _end_connections_of_others() -> int:
    """End all connections to the database but the one that does it; how many."""
    address = db.engine.url.set(drivername="postgresql")
    with psycopg.connect(address.render_as_string(hide_password=False)) as other:
        return other.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        ).fetchone()[0]  # type: ignore[index]


def test_who_rested_while_the_server_ended_connections_gets_another(app: Flask):
    with db.engine.connect(), db.engine.connect():
        """Two in the pool."""
    assert _end_connections_of_others() >= 2
    time.sleep(RESTED_SECONDS + 0.1)
    for _ in range(3):
        with reading() as session:
            assert session.scalar(sa.text("SELECT 1")) == 1


def test_a_connection_that_was_just_used_is_used_without_a_look(
    app: Flask, monkeypatch: pytest.MonkeyPatch
):
    looks: list[Any] = []
    with reading() as session:
        session.scalar(sa.text("SELECT 1"))
    look = db.engine.dialect.do_ping
    monkeypatch.setattr(db.engine.dialect, "do_ping", lambda one: looks.append(one) or look(one))
    for _ in range(5):
        with reading() as session:
            session.scalar(sa.text("SELECT 1"))
    assert not looks
    time.sleep(RESTED_SECONDS + 0.1)
    with reading() as session:
        session.scalar(sa.text("SELECT 1"))
    assert len(looks) == 1
