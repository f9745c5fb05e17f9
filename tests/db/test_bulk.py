"""Rows in bulk are the rows that were given, and failures are those that every caller knows."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import IntegrityError

from portal.db import bulk
from portal.db.session import db, table, writing
from portal.errors import Unavailable
from portal.models import AttemptPayload
from tests.conftest import on_both_databases

COLUMNS = (
    "attempt_id",
    "merchant_id",
    "request_headers",
    "body_kind",
    "request_body",
    "response_headers",
    "response_body",
    "truncated",
)
ROWS = [
    ("req_1", 1, '[["A","\\t\\\\N"]]', "own", b"\x00\xff\\x", None, b"", True),
    ("req_2", 2, "ä\n\r\t\\.", "none", None, "[]", None, False),
]


@on_both_databases
def test_every_value_comes_back_as_it_was(app: Flask):
    with writing() as session:
        bulk.insert(session.connection(), table(AttemptPayload), COLUMNS, ROWS)
    stored = table(AttemptPayload)
    rows = db.session.execute(
        sa.select(*[stored.c[name] for name in COLUMNS]).order_by("attempt_id")
    ).all()
    assert [tuple(row) for row in rows] == ROWS


@on_both_databases
def test_a_key_that_is_there_twice_is_an_integrity_error_and_nothing_is_stored(app: Flask):
    with pytest.raises(IntegrityError), writing() as session:
        bulk.insert(session.connection(), table(AttemptPayload), COLUMNS, [*ROWS, ROWS[0]])
    assert db.session.scalar(sa.select(sa.func.count()).select_from(AttemptPayload)) == 0


@pytest.mark.parametrize("count", [1, 2, 75, 127, 128, 250, 500])
def test_rows_are_few_statements_however_many_they_are(app: Flask, count: int):
    """Another thread may take the interpreter between two, while all who write wait."""
    statements = 0

    def note(_c: Any, _cursor: Any, _text: str, values: Any, _context: Any, is_many: bool) -> None:
        nonlocal statements
        statements += len(values) if is_many else 1

    rows = [(f"req_{number:03}", *ROWS[number % 2][1:]) for number in range(count)]
    with writing() as session:
        connection = session.connection()
        sa.event.listen(db.engine, "before_cursor_execute", note)
        try:
            bulk.insert(connection, table(AttemptPayload), COLUMNS, rows)
        finally:
            sa.event.remove(db.engine, "before_cursor_execute", note)
    stored = table(AttemptPayload)
    found = db.session.execute(
        sa.select(*[stored.c[name] for name in COLUMNS]).order_by("attempt_id")
    ).all()
    assert [tuple(row) for row in found] == rows
    assert statements <= count // bulk.TOGETHER + 7


def _insert_after_the_server_ended_the_connection() -> None:
    with writing() as session:
        own = session.scalar(sa.text("SELECT pg_backend_pid()"))
        with db.engine.connect() as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
        bulk.insert(session.connection(), table(AttemptPayload), COLUMNS, ROWS)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_server_that_ends_the_connection_is_unavailable(app: Flask):
    with pytest.raises(Unavailable):
        _insert_after_the_server_ended_the_connection()
    with writing() as session:
        bulk.insert(session.connection(), table(AttemptPayload), COLUMNS, ROWS)


@on_both_databases
def test_a_condition_on_many_values_finds_just_those(app: Flask):
    with writing() as session:
        bulk.insert(session.connection(), table(AttemptPayload), COLUMNS, ROWS)
    stored = table(AttemptPayload)
    found = db.session.scalars(
        sa.select(stored.c.attempt_id).where(
            bulk.among(db.session, stored.c.attempt_id, ["req_2", "req_3", 'it\'s "so"'])
        )
    ).all()
    assert found == ["req_2"]
