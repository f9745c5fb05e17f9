"""What is owed to a webhook, read from the database: what is due, and what waits for its time.

For a running read transaction. The database stays the truth: a row is due until its result is
committed, so what is read may be known already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa

from portal.composing.compose import Payload
from portal.db.session import db, table
from portal.models import Attempt, Delivery, Event, EventPayload
from portal.models.delivery import MANUAL, PENDING, PENDING_LITERAL, STATES
from portal.outbound.outcome import NOT_NOW, OWN_ERRORS

ENDS = 500
"""Deliveries that a probe is chosen among: so many at the beginning of what is due, at its end, and
anywhere between."""
LOOKED = 1_000
"""Rows that a read looks at, however few of them are what it looks for: the thread that sends reads
them."""

PLACE = 64 * 1024
"""Characters of a payload for each of which a request takes a place more."""

Place = tuple[int, str]
"""How far was read: a moment (Unix µs) and an ID."""
START: Place = (0, "")

_delivery, _payload = table(Delivery), table(EventPayload)
_attempt, _event = table(Attempt), table(Event)


@dataclass(slots=True)
class DueDelivery:
    """A delivery whose next attempt has come, with the event it carries."""

    id: str
    merchant_id: int
    event_id: str
    webhook_id: str
    attempts: int
    step: int
    trigger: str
    type: str
    """The event's, as its receivers read it; "" where that has expired."""
    payload: Payload | None
    hurries: int = 0
    delivered_at: int | None = None
    """When it was delivered already, where a person has it sent again (Unix µs)."""
    hurried: bool = False
    """Whether it goes out before its time by schedule."""
    size: int = field(init=False, default=0)
    """Characters of the payload that it carries in memory."""
    places: int = field(init=False, default=1)
    """How many places of its drain it takes: one, and one for each PLACE of its payload, which is
    in memory several times while the request is under way."""

    def __post_init__(self) -> None:
        """Measure it: it is asked for its size again and again."""
        if (payload := self.payload) is not None:
            self.size = (
                len(payload.head) + len(payload.data or "") + len(payload.previous or "")
            )
            self.places += self.size // PLACE


@dataclass(frozen=True)
class Candidate:
    """A delivery that a held webhook may be probed with. `hurried`: its time by schedule has not
    come."""

    id: str
    step: int
    trigger: str
    type: str
    is_retry: bool = False
    hurried: bool = False

    def is_last(self, schedule: Sequence[int]) -> bool:
        """Whether the next attempt is the last of its schedule; one that a person asks for is
        none of the schedule."""
        return self.trigger != MANUAL and self.step + 1 >= len(schedule)


def read(
    webhook_id: str, *, is_retry: bool, moment: int, after: Place, count: int, ordered: bool,
    without: Collection[str] = (),
) -> tuple[list[tuple[DueDelivery, int]], Place | None]:
    """First attempts or retries that are due at `moment` (Unix µs), `after` a place, `without` some
    types: each with the moment from which it is due. And where to read on; None at the end."""
    values = {
        "webhook_id": webhook_id, "is_retry": is_retry, "moment": moment, "after": after[0],
        "after_id": after[1],
    }
    if without:
        return _fitting(_OLDEST[ordered], values, count, without)
    if ordered:
        return _fitting(_DUE_IN_ORDER, values, count)
    rows = _dues(_DUE, {**values, "count": count})
    return rows, _end_of(rows) if len(rows) == count else None


def waiting(
    webhook_id: str, *, moment: int, tried_before: int, after: Place, count: int, ordered: bool,
    without: Collection[str] = (),
) -> tuple[list[tuple[DueDelivery, int]], Place | None]:
    """Retries, `without` some types, that wait for their time after `moment` though what they wait
    for may be over: the receiver was away at their last attempt, `tried_before` a moment (all Unix
    µs). None whose last two waits were cut short: so a receiver that comes and goes, or that
    dislikes a delivery by 5xx, uses up no schedule in no time. And where to read on; None at the
    end."""
    values = {
        "webhook_id": webhook_id, "moment": moment, "tried_before": tried_before,
        "after": after[0], "after_id": after[1], "hurries": 2, "whatever": False,
    }
    statement = (_WAITING_TYPES if without else _WAITING)[ordered]
    rows, place = _fitting(statement, values, count, without)
    for due, _ in rows:
        due.hurried = True
    return rows, place


def find(candidate: Candidate) -> DueDelivery | None:
    """The delivery of a candidate, unless it was finished meanwhile."""
    rows = _dues(_THESE, {"ids": [candidate.id]})
    if not rows:
        return None
    due = rows[0][0]
    due.hurried = candidate.hurried
    return due


def candidates(webhook_id: str, moment: int, *, ordered: bool, dice: float) -> list[Candidate]:
    """What is due and may be a probe, first attempts before retries and each in the order of its
    time: the oldest, the newest, and where there are more some from between, as the `dice` in
    [0, 1) says."""
    found: list[Candidate] = []
    for is_retry in (False, True):
        rows = _oldest_and_newest(
            {"webhook_id": webhook_id, "is_retry": is_retry, "moment": moment, "looked": ENDS},
            ordered=ordered, dice=dice,
        )
        found += [
            Candidate(row.id, row.step, row.trigger, row.type, is_retry) for row in rows if row.fits
        ]
    return found


def _oldest_and_newest(
    values: dict[str, Any], *, ordered: bool, dice: float
) -> list[sa.Row[Any]]:
    oldest = _types(ordered, values, START)
    if len(oldest) < ENDS:
        return oldest
    newest = db.session.execute(_NEWEST[ordered], values).all()[::-1]
    first, last = oldest[-1].next_attempt_at, newest[0].next_attempt_at
    between = _types(ordered, values, (first + int(dice * max(0, last - first)), ""))
    rows = {row.id: row for row in (*oldest, *between, *newest)}
    return sorted(rows.values(), key=lambda row: (row.next_attempt_at, row.id))


def _types(ordered: bool, values: dict[str, Any], after: Place) -> list[sa.Row[Any]]:
    return list(db.session.execute(
        _OLDEST[ordered], {**values, "after": after[0], "after_id": after[1]}
    ))


def waiting_candidates(
    webhook_id: str, moment: int, *, after: Place, ordered: bool, whatever: bool
) -> tuple[list[Candidate], Place | None]:
    """What waits for its time and may be a probe before it, the next first: what was not tried
    before its time the last time, or `whatever` waits; `after` a place. And where to read on; None
    at the end."""
    rows = db.session.execute(_WAITING_TYPES[ordered], {
        "webhook_id": webhook_id, "moment": moment, "tried_before": moment, "looked": LOOKED,
        "after": after[0], "after_id": after[1], "whatever": whatever, "hurries": 1,
    }).all()
    found = [
        Candidate(row.id, row.step, row.trigger, row.type, is_retry=True, hurried=True)
        for row in rows if row.fits
    ]
    return found, (rows[-1].next_attempt_at, rows[-1].id) if len(rows) == LOOKED else None


_Fields = tuple[str, int, str, str, int, int, str]


def _dues(statement: sa.Select[Any], values: dict[str, Any]) -> list[tuple[DueDelivery, int]]:
    found = []
    # All at once: between two rows another thread may take the interpreter.
    for row in db.session.execute(statement, values).all():
        *fields, hurries, delivered_at, head, data, previous, due_at = row
        # To join the events for it would take a quarter of all the time that deliveries take.
        named = None if head is None else _TYPE.search(head)
        kind = "" if named is None else named[1]
        payload = None if head is None else Payload(head, data, previous)
        one = DueDelivery(*cast(_Fields, fields), kind, payload, hurries, delivered_at)
        found.append((one, due_at))
    return found


def _end_of(rows: Sequence[tuple[DueDelivery, int]]) -> Place:
    last, due_at = rows[-1]
    return due_at, last.id


def _fitting(
    statement: sa.Select[Any], values: dict[str, Any], count: int, without: Collection[str] = (),
) -> tuple[list[tuple[DueDelivery, int]], Place | None]:
    """Up to `count` deliveries of which a statement says that they fit, `without` some types, among
    those that it looks at; and where to read on, None at the end."""
    looked = db.session.execute(statement, {**values, "looked": LOOKED}).all()
    place: Place | None = None
    ids: list[str] = []
    for row in looked:
        if len(ids) == count:
            break
        place = row.next_attempt_at, row.id
        if row.fits and not (without and row.type in without):
            ids.append(row.id)
    if len(ids) < count and len(looked) < LOOKED:
        place = None
    rows = {due.id: (due, due_at) for due, due_at in _dues(_THESE, {"ids": ids})} if ids else {}
    return [rows[one] for one in ids if one in rows], place


_TYPE = re.compile(r'"type":"([^"]*)"')
"""In the head of a body; no type has a quote, and in other texts each has its backslash."""

_place = sa.tuple_(_delivery.c.next_attempt_at, _delivery.c.id)
_pending = sa.and_(
    _delivery.c.webhook_id == sa.bindparam("webhook_id"), _delivery.c.state == PENDING_LITERAL
)
_after = sa.and_(
    _delivery.c.next_attempt_at >= sa.bindparam("after"),
    _place > sa.tuple_(sa.bindparam("after"), sa.bindparam("after_id")),
)
_is_due = sa.and_(
    _pending, _delivery.c.is_retry == sa.bindparam("is_retry"),
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
                last.c.status.between(500, 599), last.c.status.in_(sorted(NOT_NOW)),
                sa.and_(last.c.error.is_not(None), last.c.error.not_in(sorted(OWN_ERRORS))),
            ),
        ),
    )


def _is_its_turn(row: sa.CTE) -> sa.ColumnElement[bool]:
    """Whether a delivery is the first of its record that is owed: the next is due when that one is
    finished. One look for each record among the rows, however many rows are one record's."""
    first, earlier = _delivery.alias("first"), _delivery.alias("earlier")
    records = (
        sa.select(row.c.object_key).where(row.c.object_key.is_not(None)).distinct().cte("records")
    )
    firsts = sa.select(
        sa.select(first.c.id)
        .where(
            first.c.webhook_id == sa.bindparam("webhook_id"),
            first.c.object_key == records.c.object_key, *_holds_up(first),
        )
        .order_by(first.c.created_at, first.c.id)
        .limit(1)
        .correlate(records)
        .scalar_subquery()
    ).select_from(records)
    return sa.or_(
        row.c.object_key.is_(None),
        row.c.id.in_(firsts),
        # It holds up nobody itself.
        sa.and_(
            row.c.finished_at.is_not(None),
            ~sa.exists().where(
                earlier.c.webhook_id == row.c.webhook_id,
                earlier.c.object_key == row.c.object_key, *_holds_up(earlier),
                sa.tuple_(earlier.c.created_at, earlier.c.id)
                < sa.tuple_(row.c.created_at, row.c.id),
            ),
        ),
    )


def _holds_up(row: sa.FromClause) -> tuple[sa.ColumnElement[bool], ...]:
    # One that was delivered, and is sent again, holds up nobody.
    return row.c.state == PENDING_LITERAL, row.c.finished_at.is_(None)


_owed = (
    sa.select(
        # In the order of Due's fields.
        _delivery.c.id, _delivery.c.merchant_id, _delivery.c.event_id, _delivery.c.webhook_id,
        _delivery.c.attempts, _delivery.c.step, _delivery.c.trigger, _delivery.c.hurries,
        _delivery.c.finished_at, _payload.c.head, _payload.c.data, _payload.c.previous,
        _delivery.c.next_attempt_at,
    )
    .select_from(
        _delivery.outerjoin(
            _payload,
            sa.and_(
                _payload.c.merchant_id == _delivery.c.merchant_id,
                _payload.c.event_id == _delivery.c.event_id,
            ),
        )
    )
)


def _walk(
    *conditions: sa.ColumnElement[bool],
    fits: Callable[[sa.CTE], sa.ColumnElement[bool]] | None = None,
    ordered: bool, typed: bool, newest: bool = False,
) -> sa.Select[Any]:
    """So many rows of an index as are `looked` at, in its order, and of each whether it `fits`.

    The bound is on the rows, within, and not on those that fit: else one that fits behind a
    hundred thousand that do not would be looked for without an end.
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
        row.c.id, row.c.next_attempt_at, row.c.step, row.c.trigger,
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
_THESE = _owed.where(
    _delivery.c.id.in_(sa.bindparam("ids", expanding=True)),
    # So said, for of what is pending there is an index, which a planner might go through.
    _delivery.c.state.not_in(sorted(set(STATES) - {PENDING})),
)
_DUE = (
    _owed.where(_is_due, _after)
    .order_by(_delivery.c.next_attempt_at, _delivery.c.id)
    .limit(sa.bindparam("count"))
)
_DUE_IN_ORDER = _walk(_is_due, _after, ordered=True, typed=False)
_WAITING = {
    ordered: _walk(_waits, _after, fits=_may_hurry, ordered=ordered, typed=False)
    for ordered in _EACH
}
_OLDEST = {ordered: _walk(_is_due, _after, ordered=ordered, typed=True) for ordered in _EACH}
_NEWEST = {
    ordered: _walk(_is_due, ordered=ordered, typed=True, newest=True) for ordered in _EACH
}
_WAITING_TYPES = {
    ordered: _walk(_waits, _after, fits=_may_hurry_or_whatever, ordered=ordered, typed=True)
    for ordered in _EACH
}
