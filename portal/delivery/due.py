"""What is owed to a webhook, read from the database: what is due, and what waits for its time.

For a running read transaction. The database stays the truth: a row is due until its result is
committed, so what is read may be known already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa

from portal.delivery.compose import Payload
from portal.delivery.outcome import NOT_NOW, OWN_ERRORS
from portal.extensions import db, table
from portal.models import Attempt, Delivery, Event, EventPayload
from portal.models.delivery import MANUAL, PENDING_LITERAL

ENDS = 500
"""Deliveries at the beginning and at the end of what is due that a probe is chosen among."""

_delivery, _payload = table(Delivery), table(EventPayload)
_attempt, _event = table(Attempt), table(Event)


@dataclass(slots=True)
class Due:
    """A delivery whose next attempt has come, with the event it carries."""

    id: str
    merchant_id: int
    event_id: str
    webhook_id: str
    attempts: int
    step: int
    trigger: str
    payload: Payload | None
    hurries: int = 0
    delivered_at: int | None = None
    """When it was delivered already, where a person has it sent again (Unix µs)."""
    hurried: bool = False
    """Whether it goes out before its time by schedule."""


@dataclass(frozen=True)
class Candidate:
    """A delivery that a held webhook may be probed with. `hurried`: its time by schedule has not
    come."""

    id: str
    step: int
    trigger: str
    type: str
    hurried: bool = False

    def is_last(self, schedule: Sequence[int]) -> bool:
        """Whether the next attempt is the last of its schedule; one that a person asks for is
        none of the schedule."""
        return self.trigger != MANUAL and self.step + 1 >= len(schedule)


def read(
    webhook_id: str, *, is_retry: bool, moment: int, after: tuple[int, str], count: int,
    ordered: bool,
) -> list[tuple[Due, int]]:
    """First attempts or retries that are due at `moment` (Unix µs), `after` a moment and an ID:
    each with the moment from which it is due."""
    return _dues(_DUE[ordered], {
        "webhook_id": webhook_id, "is_retry": is_retry, "moment": moment, "count": count,
        "after": after[0], "after_id": after[1],
    })


def waiting(
    webhook_id: str, *, moment: int, tried_before: int, after: tuple[int, str], count: int,
    ordered: bool,
) -> list[tuple[Due, int]]:
    """Retries that wait for their time after `moment` though what they wait for may be over: the
    receiver was away at their last attempt, `tried_before` a moment (all Unix µs). None whose
    last two waits were cut short: so a receiver that comes and goes, or that dislikes a delivery by
    5xx, uses up no schedule in no time."""
    rows = _dues(_WAITING[ordered], {
        "webhook_id": webhook_id, "moment": moment, "tried_before": tried_before, "count": count,
        "after": after[0], "after_id": after[1], "hurries": 2,
    })
    for due, _ in rows:
        due.hurried = True
    return rows


def find(candidate: Candidate) -> Due | None:
    """The delivery of a candidate, unless it was finished meanwhile."""
    rows = _dues(_ONE, {"id": candidate.id})
    if not rows:
        return None
    due = rows[0][0]
    due.hurried = candidate.hurried
    return due


def candidates(webhook_id: str, moment: int, *, ordered: bool) -> list[Candidate]:
    """What is due and may be a probe: first attempts before retries, the oldest ENDS of each and,
    for they may be of other types, the newest first attempts."""
    found: dict[str, Candidate] = {}
    for is_retry, newest in ((False, False), (False, True), (True, False)):
        rows = db.session.execute(_TYPES[ordered, newest], {
            "webhook_id": webhook_id, "is_retry": is_retry, "moment": moment, "count": ENDS,
        })
        for row in rows:
            found.setdefault(row.id, Candidate(*row))
    return list(found.values())


def waiting_candidates(
    webhook_id: str, moment: int, *, ordered: bool, whatever: bool
) -> list[Candidate]:
    """What waits for its time and may be a probe before it, the next first: what was not tried
    before its time the last time, or `whatever` waits."""
    rows = db.session.execute(_WAITING_TYPES[ordered], {
        "webhook_id": webhook_id, "moment": moment, "tried_before": moment, "count": ENDS,
        "after": 0, "after_id": "", "whatever": whatever, "hurries": 1,
    })
    return [Candidate(row.id, row.step, row.trigger, row.type, hurried=True) for row in rows]


_Fields = tuple[str, int, str, str, int, int, str]


def _dues(statement: sa.Select[Any], values: dict[str, Any]) -> list[tuple[Due, int]]:
    found = []
    for row in db.session.execute(statement, values):
        *fields, hurries, delivered_at, head, data, previous, due_at = row
        payload = None if head is None else Payload(head, data, previous)
        found.append((Due(*cast(_Fields, fields), payload, hurries, delivered_at), due_at))
    return found


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
_last = _attempt.alias("last_try")
_newer = _attempt.alias("newer_try")
_may_hurry = sa.and_(
    _delivery.c.hurries < sa.bindparam("hurries"),
    sa.exists().where(
        _last.c.id
        == sa.select(sa.func.max(_newer.c.id))
        .where(_newer.c.delivery_id == _delivery.c.id)
        .correlate(_delivery)
        .scalar_subquery(),
        _last.c.attempted_at < sa.bindparam("tried_before"),
        # As outcome.of() tells who is away.
        sa.or_(
            _last.c.status.between(500, 599), _last.c.status.in_(sorted(NOT_NOW)),
            sa.and_(_last.c.error.is_not(None), _last.c.error.not_in(sorted(OWN_ERRORS))),
        ),
    ),
)
_earlier = _delivery.alias("earlier")
_is_its_turn = sa.or_(
    _delivery.c.object_key.is_(None),
    ~sa.exists().where(
        _earlier.c.webhook_id == _delivery.c.webhook_id,
        _earlier.c.object_key == _delivery.c.object_key,
        _earlier.c.state == PENDING_LITERAL,
        # One that was delivered, and is sent again, holds up nobody.
        _earlier.c.finished_at.is_(None),
        sa.tuple_(_earlier.c.created_at, _earlier.c.id)
        < sa.tuple_(_delivery.c.created_at, _delivery.c.id),
    ),
)
"""Of each record only the first that is owed: the next is due when that one is finished."""

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
_typed = sa.select(
    # In the order of Candidate's fields.
    _delivery.c.id, _delivery.c.step, _delivery.c.trigger, _event.c.type,
).select_from(
    _delivery.join(
        _event,
        sa.and_(
            _event.c.merchant_id == _delivery.c.merchant_id, _event.c.id == _delivery.c.event_id
        ),
    )
)


def _walk(
    query: sa.Select[Any], *conditions: sa.ColumnElement[bool], ordered: bool, newest: bool = False
) -> sa.Select[Any]:
    keys: Sequence[sa.ColumnElement[Any]] = (_delivery.c.next_attempt_at, _delivery.c.id)
    if ordered:
        conditions = (*conditions, _is_its_turn)
    return (
        query.where(*conditions)
        .order_by(*(key.desc() if newest else key for key in keys))
        .limit(sa.bindparam("count"))
    )


_ONE = _owed.where(_delivery.c.id == sa.bindparam("id"), _delivery.c.state == PENDING_LITERAL)
_DUE = {ordered: _walk(_owed, _is_due, _after, ordered=ordered) for ordered in (False, True)}
_WAITING = {
    ordered: _walk(_owed, _waits, _after, _may_hurry, ordered=ordered) for ordered in (False, True)
}
_TYPES = {
    (ordered, newest): _walk(_typed, _is_due, ordered=ordered, newest=newest)
    for ordered in (False, True) for newest in (False, True)
}
_WAITING_TYPES = {
    ordered: _walk(
        _typed, _waits, _after,
        sa.or_(sa.bindparam("whatever", type_=sa.Boolean), _may_hurry), ordered=ordered,
    )
    for ordered in (False, True)
}
