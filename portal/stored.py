"""How many bytes a row of the logs counts as, and what is taken off when rows are deleted.

A row counts as about what it takes on the disk, its places in indexes included: so small events and
their deliveries count too. portal.logs.measuring adds up what is new, day by day; whoever deletes
takes off in the same transaction, as far as it was added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal.clock import DAY
from portal.extensions import table
from portal.ids import moment_of_request_id, request_id_at
from portal.models import (
    Attempt,
    AttemptPayload,
    AuditEntry,
    Delivery,
    Event,
    EventPayload,
    MeasuredUntil,
    StoredBytes,
)

COMING, SENDING, STAYING = CLOCKS = (1, 2, 3)
"""What comes in is in the log at once; deliveries and attempts may be later by as long as a request
takes; and the audit log stays for ever. For each it is known by itself up to when it is
measured."""
FOR_EVER = 0
"""In place of a day: what stays is one sum."""
ALL = 0
"""In place of a clock: its row is there once everything was measured for the first time."""
ENTRY = 12
"""Bytes that a row takes beside its values, in its table and in each index."""
NUMBER = 8
SHORT, OF_SHORT = 40, 30
"""A text column that is so short holds IDs and names that the portal makes, of about so many
bytes; longer ones are looked at."""

_NOTHING: sa.ColumnElement[int] = sa.literal_column("0")
bytes_table, until_table = table(StoredBytes), table(MeasuredUntil)


@dataclass(frozen=True)
class Part:
    """A log that is measured: the column by which it goes, and between its values and moments (Unix
    µs); the clock that it follows, and the column of StoredBytes that it counts in."""

    table: sa.Table
    key: sa.Column[Any]
    clock: int
    column: str
    bound: Callable[[int], Any] = lambda moment: moment
    moment_of: Callable[[Any], int] = lambda key: key


def _parts() -> tuple[Part, ...]:
    event, payload, delivery = table(Event), table(EventPayload), table(Delivery)
    attempt, sent, audit = table(Attempt), table(AttemptPayload), table(AuditEntry)
    by_id = (request_id_at, moment_of_request_id)
    return (
        Part(event, event.c.received_at, COMING, "logs"),
        Part(payload, payload.c.received_at, COMING, "payloads"),
        Part(delivery, delivery.c.created_at, SENDING, "logs"),
        Part(attempt, attempt.c.id, SENDING, "logs", *by_id),
        Part(sent, sent.c.attempt_id, SENDING, "payloads", *by_id),
        Part(audit, audit.c.at, STAYING, "logs"),
    )


PARTS = _parts()
_BY_NAME = {part.table.name: part for part in PARTS}


def part_of(log: sa.Table) -> Part | None:
    """How a table is measured; None where it is not, since it does not grow with what is sent."""
    return _BY_NAME.get(log.name)


@lru_cache
def row_bytes(log: sa.Table, dialect: str) -> sa.ColumnElement[int]:
    """How many bytes a row of a table counts as, for a database of that dialect."""
    indexes = [list(index.columns) for index in log.indexes] + [list(log.primary_key.columns)]
    flat, texts = ENTRY * (1 + len(indexes)), []
    for column in log.columns:
        times = 1 + sum(column in columns for columns in indexes)
        if not isinstance(column.type, sa.String | sa.LargeBinary | sa.JSON):
            flat += NUMBER * times
        elif (getattr(column.type, "length", None) or SHORT + 1) <= SHORT:
            flat += min(getattr(column.type, "length", 0), OF_SHORT) * times
        else:
            often: sa.ColumnElement[int] = sa.literal_column(str(times))
            texts.append(sa.func.coalesce(_octets(column, dialect), _NOTHING) * often)
    return sum(texts, sa.literal_column(str(flat)))


def _octets(column: sa.Column[Any], dialect: str) -> sa.ColumnElement[int]:
    if dialect == "sqlite":
        # Of a text it would count characters; octet_length is younger than SQLite 3.43.
        return sa.func.length(sa.cast(column, sa.LargeBinary))
    is_json = isinstance(column.type, sa.JSON)
    return sa.func.octet_length(sa.cast(column, sa.Text) if is_json else column)


def of_deleted(part: Part, dialect: str) -> tuple[sa.ColumnElement[Any], ...]:
    """What a deletion returns of each row, for `take_off`."""
    return part.table.c.merchant_id, part.key, row_bytes(part.table, dialect)


def take_off(
    session: scoped_session[Any], part: Part, gone: Iterable[tuple[int, Any, int]]
) -> None:
    """Count deleted rows no more, in the transaction that deletes them: of each its merchant's ID,
    its key and its bytes. What was not measured yet was not counted."""
    until = session.execute(
        sa.select(until_table.c.moment).where(until_table.c.id == part.clock).with_for_update()
    ).first()
    if until is None:
        return
    sums: Counter[tuple[int, int]] = Counter()
    is_ahead = False
    for merchant_id, key, size in gone:
        moment = part.moment_of(key)
        if moment < until.moment:
            sums[merchant_id, moment - moment % DAY] += size
        else:
            is_ahead = True
    if is_ahead:
        session.execute(
            sa.update(until_table).where(until_table.c.id == part.clock)
            .values(token=until_table.c.token + 1)
        )
    if sums:
        session.execute(_less(part.column), [
            {"whose": merchant_id, "day": day, "less": less}
            for (merchant_id, day), less in sorted(sums.items())
        ])


@lru_cache
def _less(name: str) -> sa.Update:
    column, less = bytes_table.c[name], sa.bindparam("less", type_=sa.BigInteger)
    return (
        sa.update(bytes_table)
        .where(
            bytes_table.c.merchant_id == sa.bindparam("whose"),
            bytes_table.c.starts_at == sa.bindparam("day"),
        )
        # Never below nothing: of what was committed very late nobody knew.
        .values({name: sa.case((column > less, column - less), else_=0)})
    )
