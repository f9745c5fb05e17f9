"""The statements that read the pending deliveries of a webhook (portal.delivery.due)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from portal.db.session import table
from portal.models import Attempt, Delivery, Event, EventPayload
from portal.models.delivery import PENDING, PENDING_LITERAL, STATES
from portal.outbound.outcome import NOT_NOW, OWN_ERRORS

LARGE = 64 * 1024
"""A text of a payload that is longer is left out where many are read, for they would fill the
memory. In bytes on PostgreSQL, which knows them without reading the text; in characters on
SQLite."""
LEFT_OUT = ""
"""What stands in place of a text that is left out; it is no JSON."""

_delivery, _payload = table(Delivery), table(EventPayload)
_attempt, _event = table(Attempt), table(Event)

_cursor = sa.tuple_(_delivery.c.next_attempt_at, _delivery.c.id)
_pending = sa.and_(
    _delivery.c.webhook_id == sa.bindparam("webhook_id"), _delivery.c.state == PENDING_LITERAL
)
_after = sa.and_(
    _delivery.c.next_attempt_at >= sa.bindparam("after"),
    _cursor > sa.tuple_(sa.bindparam("after"), sa.bindparam("after_id")),
)
_is_due = sa.and_(
    _pending,
    _delivery.c.is_retry == sa.bindparam("is_retry"),
    _delivery.c.next_attempt_at <= sa.bindparam("moment"),
)
_waits = sa.and_(
    _pending, _delivery.c.is_retry.is_(True), _delivery.c.next_attempt_at > sa.bindparam("moment")
)


def _may_hurry(row: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a delivery may go out before its time."""
    last, newer = _attempt.alias("last_try"), _attempt.alias("newer_try")
    return sa.and_(
        row.c.hurries < sa.bindparam("hurries"),
        sa.exists().where(
            last.c.id
            == sa.select(sa.func.max(newer.c.id))
            .where(newer.c.delivery_id == row.c.id)
            .correlate(row)
            .scalar_subquery(),
            last.c.attempted_at < sa.bindparam("tried_before"),
            # As outcome.of() tells who is away.
            sa.or_(
                last.c.status.between(500, 599),
                last.c.status.in_(sorted(NOT_NOW)),
                sa.and_(last.c.error.is_not(None), last.c.error.not_in(sorted(OWN_ERRORS))),
            ),
        ),
    )


def _is_its_turn(row: sa.CTE) -> sa.ColumnElement[bool]:
    """Whether a delivery is the first pending one of its record: the next is due when that one is
    finished. One look for each record among the rows, however many rows a record has."""
    first, earlier = _delivery.alias("first"), _delivery.alias("earlier")
    records = (
        sa.select(row.c.object_key).where(row.c.object_key.is_not(None)).distinct().cte("records")
    )
    firsts = sa.select(
        sa.select(first.c.id)
        .where(
            first.c.webhook_id == sa.bindparam("webhook_id"),
            first.c.object_key == records.c.object_key,
            *_holds_up(first),
        )
        .order_by(first.c.created_at, first.c.id)
        .limit(1)
        .correlate(records)
        .scalar_subquery()
    ).select_from(records)
    return sa.or_(
        row.c.object_key.is_(None),
        row.c.id.in_(firsts),
        # One that holds up no others.
        sa.and_(
            row.c.finished_at.is_not(None),
            ~sa.exists().where(
                earlier.c.webhook_id == row.c.webhook_id,
                earlier.c.object_key == row.c.object_key,
                *_holds_up(earlier),
                sa.tuple_(earlier.c.created_at, earlier.c.id)
                < sa.tuple_(row.c.created_at, row.c.id),
            ),
        ),
    )


def _holds_up(row: sa.FromClause) -> tuple[sa.ColumnElement[bool], ...]:
    # One that was delivered and is sent again holds up no others.
    return row.c.state == PENDING_LITERAL, row.c.finished_at.is_(None)


class _Octets(GenericFunction[int]):
    """How long a text is. PostgreSQL knows its bytes, but would have to read it to count
    characters; SQLite has octet_length() from 3.43 on."""

    type = sa.Integer()
    name = "octet_length"
    inherit_cache = True


@compiles(_Octets, "sqlite")
def _in_sqlite(element: _Octets, compiler: SQLCompiler, **options: Any) -> str:
    return f"length({compiler.process(element.clauses, **options)})"


def _unless_large(text: sa.Column[Any]) -> sa.ColumnElement[Any]:
    is_large = _Octets(text) > sa.literal_column(str(LARGE))
    return sa.case((is_large, sa.literal_column("''")), else_=text).label(text.name)


_owed = sa.select(
    # In the order of DueDelivery's fields.
    _delivery.c.id,
    _delivery.c.merchant_id,
    _delivery.c.event_id,
    _delivery.c.webhook_id,
    _delivery.c.attempts,
    _delivery.c.step,
    _delivery.c.trigger,
    _delivery.c.hurries,
    _delivery.c.finished_at,
    _payload.c.head,
    _unless_large(_payload.c.data),
    _unless_large(_payload.c.previous),
    _delivery.c.next_attempt_at,
).select_from(
    _delivery.outerjoin(
        _payload,
        sa.and_(
            _payload.c.merchant_id == _delivery.c.merchant_id,
            _payload.c.event_id == _delivery.c.event_id,
        ),
    )
)


def _walk(
    *conditions: sa.ColumnElement[bool],
    fits: Callable[[sa.CTE], sa.ColumnElement[bool]] | None = None,
    ordered: bool,
    typed: bool,
    newest: bool = False,
) -> sa.Select[Any]:
    """The first rows of an index, in its order: as many as are to be `looked` at, each with whether
    it `fits`.

    The bound is on the rows that are looked at, not on those that fit: otherwise one that fits,
    behind a hundred thousand that do not, would be searched for without end.
    """
    keys: Sequence[sa.ColumnElement[Any]] = (_delivery.c.next_attempt_at, _delivery.c.id)
    row = (
        sa.select(_delivery)
        .where(*conditions)
        .order_by(*(key.desc() if newest else key for key in keys))
        .limit(sa.bindparam("looked"))
        .cte("looked")
    )
    wanted = [make(row) for make in ((fits, _is_its_turn) if ordered else (fits,)) if make]
    query = sa.select(
        row.c.id,
        row.c.next_attempt_at,
        row.c.step,
        row.c.trigger,
        sa.and_(sa.true(), *wanted).label("fits"),
    )
    if typed:
        query = query.add_columns(_event.c.type).join(
            _event,
            sa.and_(_event.c.merchant_id == row.c.merchant_id, _event.c.id == row.c.event_id),
        )
    outer = (row.c.next_attempt_at, row.c.id)
    return query.order_by(*(key.desc() if newest else key for key in outer))


def _may_hurry_or_whatever(row: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.or_(sa.bindparam("whatever", type_=sa.Boolean), _may_hurry(row))


_EACH = (False, True)
THESE = _owed.where(
    _delivery.c.id.in_(sa.bindparam("ids", expanding=True)),
    # In these words because of the index of pending rows, which a planner might go through.
    _delivery.c.state.not_in(sorted(set(STATES) - {PENDING})),
)
DUE = (
    _owed.where(_is_due, _after)
    .order_by(_delivery.c.next_attempt_at, _delivery.c.id)
    .limit(sa.bindparam("count"))
)
DUE_IN_ORDER = _walk(_is_due, _after, ordered=True, typed=False)
WAITING = {
    ordered: _walk(_waits, _after, fits=_may_hurry, ordered=ordered, typed=False)
    for ordered in _EACH
}
OLDEST = {ordered: _walk(_is_due, _after, ordered=ordered, typed=True) for ordered in _EACH}
NEWEST = {ordered: _walk(_is_due, ordered=ordered, typed=True, newest=True) for ordered in _EACH}
WAITING_TYPES = {
    ordered: _walk(_waits, _after, fits=_may_hurry_or_whatever, ordered=ordered, typed=True)
    for ordered in _EACH
}
TEXTS = sa.select(_payload.c.event_id, _payload.c.head, _payload.c.data, _payload.c.previous).where(
    _payload.c.merchant_id == sa.bindparam("merchant_id"),
    _payload.c.event_id.in_(sa.bindparam("event_ids", expanding=True)),
)
"""Some payloads, whole."""
