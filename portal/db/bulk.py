"""Many rows into one table in one go, past the layers that cost more than the database itself.

SQLite takes a prepared statement with tuples, PostgreSQL a COPY: several times as fast as inserts
that are compiled row by row. For columns whose Python values the drivers take as they are: numbers,
text, bytes, truth values and None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal.database_errors import say_nothing_of_rows

TOGETHER = 128
"""Rows of one SQLite statement, and half as many of the next as long as fewer are left: between
two statements another thread may take the interpreter, and an insert of many rows as many
statements passes it to and fro, while all who write wait."""


def insert(
    connection: sa.Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert rows, each with the values of `columns`, in the connection's transaction.

    Raises SQLAlchemy's errors, such as IntegrityError.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        start, together = 0, TOGETHER
        while left := len(rows) - start:
            while together > left:
                together //= 2
            values = tuple(chain.from_iterable(rows[start : start + together]))
            connection.exec_driver_sql(_insert(table.name, columns, together), values)
            start += together
        return
    statement = _copy(table.name, columns)
    try:
        with connection.connection.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        # What SQLAlchemy does for statements that it runs itself.
        say_nothing_of_rows(error)
        is_gone = connection.dialect.is_disconnect(error, connection.connection, None)  # type: ignore[arg-type]
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            # As in session.prepare_engine, and for the idle connections too.
            is_gone = True
            connection.engine.dispose()
        if is_gone:
            connection.invalidate(error)
        raise sa.exc.DBAPIError.instance(
            statement,
            None,
            error,
            psycopg.Error,
            connection_invalidated=is_gone,
            hide_parameters=True,
            dialect=connection.dialect,
        ) from error


def among(
    session: scoped_session[Any], column: sa.ColumnElement[Any], values: Iterable[str]
) -> sa.ColumnElement[bool]:
    """The condition that a text column is one of many values, as one parameter: the statement
    stays the same however many there are."""
    if session.get_bind().dialect.name == "sqlite":
        listed = sa.func.json_each(sa.bindparam(None, list(values), sa.JSON)).table_valued("value")
        return column.in_(sa.select(listed.c.value))
    return column == sa.func.any(sa.bindparam(None, list(values), sa.ARRAY(sa.Text)))


@lru_cache
def _insert(table: str, columns: tuple[str, ...], rows: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({_quoted(columns)}) VALUES {', '.join([row] * rows)}"


@lru_cache
def _copy(table: str, columns: tuple[str, ...]) -> str:
    return f"COPY {table} ({_quoted(columns)}) FROM STDIN"


def _quoted(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
