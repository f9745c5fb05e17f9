"""How many bytes a row of the logs counts as, and what is taken off when rows are deleted.

A row counts as about what it takes on the disk, its places in indexes included: so small events and
their deliveries count too. portal.storage.measuring adds up what is new, day by day; whoever
deletes takes off in the same transaction, as far as it was added. A deleted webhook, whose row
stays for the log's sake, is added by who deletes it.
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
from portal.db.session import insert_into, table
from portal.ids import moment_of_request_id, request_id_at
from portal.models import (
    Attempt,
    AttemptPayload,
    AuditEntry,
    Delivery,
    Event,
    EventPayload,
    IdempotencyKey,
    MeasuredUntil,
    StoredBytes,
    Webhook,
)

COMING, SENDING, STAYING = CLOCKS = (1, 2, 3)
"""What comes in is in the log at once; deliveries and attempts may be later by as long as a request
takes; and the audit log stays for ever. For each it is known by itself up to when it is
measured."""
FOR_EVER = 0
"""In place of a day: what stays is one sum."""
ALL = 0
"""In place of a clock: its row is there once everything was measured for the first time."""
WEBHOOKS = 4
"""In place of a clock: its row is there once the webhooks were counted that had been deleted before
they were counted at all."""
ENTRY = 12
"""Bytes that a row takes beside its values, in its table and in each index."""
NUMBER = 8
SHORT, OF_SHORT = 40, 30
"""A text column that is so short holds IDs and names that the portal makes, of about so many
bytes; longer ones are looked at."""

_NOTHING: sa.ColumnElement[int] = sa.literal_column("0")
bytes_table, until_table = table(StoredBytes), table(MeasuredUntil)
_webhook = table(Webhook)

Sums = dict[int, dict[str, int]]
"""Bytes by merchant ID and column of StoredBytes."""


@dataclass(frozen=True)
class MeasuredLog:
    """A log that is measured: the column by which it goes, and between its values and moments (Unix
    µs); the clock that it follows, and the column of StoredBytes that it counts in."""

    table: sa.Table
    key: sa.Column[Any]
    clock: int
    column: str
    bound: Callable[[int], Any] = lambda moment: moment
    moment_of: Callable[[Any], int] = lambda key: key


def _parts() -> tuple[MeasuredLog, ...]:
    event, payload, delivery = table(Event), table(EventPayload), table(Delivery)
    attempt, sent, audit = table(Attempt), table(AttemptPayload), table(AuditEntry)
    answer = table(IdempotencyKey)
    by_id = (request_id_at, moment_of_request_id)
    return (
        MeasuredLog(event, event.c.received_at, COMING, "logs"),
        MeasuredLog(payload, payload.c.received_at, COMING, "payloads"),
        MeasuredLog(delivery, delivery.c.created_at, SENDING, "logs"),
        MeasuredLog(attempt, attempt.c.id, SENDING, "logs", *by_id),
        MeasuredLog(sent, sent.c.attempt_id, SENDING, "payloads", *by_id),
        # The answer is added when the request has ended.
        MeasuredLog(answer, answer.c.created_at, SENDING, "logs"),
        MeasuredLog(audit, audit.c.at, STAYING, "logs"),
    )


PARTS = _parts()
_BY_NAME = {part.table.name: part for part in PARTS}


def part_of(log: sa.Table) -> MeasuredLog | None:
    """How a table is measured; None where it is not, since it does not grow with what is sent."""
    return _BY_NAME.get(log.name)


@lru_cache
def row_bytes(log: sa.Table, dialect: str) -> sa.ColumnElement[int]:
    """How many bytes a row of a table counts as, for a database of that dialect."""
    indexes = [list(index.columns) for index in log.indexes] + [list(log.primary_key.columns)]
    flat, texts = ENTRY * (1 + len(indexes)), []
    for column in log.columns:
        times = 1 + sum(column in columns for columns in indexes)
        kind = getattr(column.type, "impl_instance", column.type)
        if not isinstance(kind, sa.String | sa.LargeBinary | sa.JSON):
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


def of_deleted(part: MeasuredLog, dialect: str) -> tuple[sa.ColumnElement[Any], ...]:
    """What a deletion returns of each row, for `take_off`."""
    return part.table.c.merchant_id, part.key, row_bytes(part.table, dialect)


def take_off(
    session: scoped_session[Any], part: MeasuredLog, gone: Iterable[tuple[int, Any, int]]
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
            sa.update(until_table)
            .where(until_table.c.id == part.clock)
            .values(token=until_table.c.token + 1)
        )
    if sums:
        session.execute(
            _less(part.column),
            [
                {"whose": merchant_id, "day": day, "less": less}
                for (merchant_id, day), less in sorted(sums.items())
            ],
        )


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


def add(session: scoped_session[Any], day: int, sums: Sums) -> None:
    """Count what came in on a day, or what stays FOR_EVER, in the running transaction."""
    insert = insert_into(session, bytes_table)
    session.execute(
        insert.on_conflict_do_update(
            index_elements=list(bytes_table.primary_key),
            set_={
                name: bytes_table.c[name] + insert.excluded[name] for name in ("logs", "payloads")
            },
        ),
        [
            {"merchant_id": merchant_id, "starts_at": day, "logs": 0, "payloads": 0}
            | sums[merchant_id]
            for merchant_id in sorted(sums)
        ],
    )


def add_deleted_webhook(session: scoped_session[Any], webhook_id: str) -> None:
    """Count a webhook that the running transaction has deleted."""
    known = session.scalar(sa.select(until_table.c.id).where(until_table.c.id == WEBHOOKS))
    if known is not None:
        _add_webhooks(session, _webhook.c.id == webhook_id)


def add_webhooks_deleted_before(session: scoped_session[Any]) -> None:
    """Count those that were deleted before that was counted; the first time alone."""
    noted = session.scalar(
        insert_into(session, until_table)
        .values(id=WEBHOOKS, moment=0, token=0)
        .on_conflict_do_nothing()
        .returning(until_table.c.id)
    )
    if noted is not None:
        _add_webhooks(session, _webhook.c.deleted_at.is_not(None))


def webhook_bytes(dialect: str, *which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """What webhooks count as, by merchant."""
    return (
        sa.select(_webhook.c.merchant_id, sa.func.sum(row_bytes(_webhook, dialect)))
        .where(*which)
        .group_by(_webhook.c.merchant_id)
    )


def _add_webhooks(session: scoped_session[Any], which: sa.ColumnElement[bool]) -> None:
    session.flush()
    found = session.execute(webhook_bytes(session.get_bind().dialect.name, which)).all()
    if found:
        add(session, FOR_EVER, {merchant_id: {"logs": int(size)} for merchant_id, size in found})
