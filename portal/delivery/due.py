"""The pending deliveries of a webhook, read from the database: those that are due, and those that
wait for their time.

For a running read transaction. The database is the truth: a row is due until its result is
committed, so what is read may be known already.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa

from portal.composing.compose import Payload
from portal.db.session import db
from portal.delivery.owed import (
    DUE,
    DUE_IN_ORDER,
    LEFT_OUT,
    NEWEST,
    OLDEST,
    TEXTS,
    THESE,
    WAITING,
    WAITING_TYPES,
)
from portal.models.delivery import MANUAL

ENDS = 500
"""How many deliveries a probe is chosen among: so many of the oldest that are due, of the newest,
and from anywhere between."""
LOOKED = 1_000
"""How many rows a read looks at, however few of them fit: it keeps the thread that sends."""

AT_ONCE = 4 * 1024 * 1024
"""After how many characters of payload a read ends, however few deliveries it has: each may take
four bytes of memory, and reading them keeps the thread that sends."""
FEW = 4
"""How many large payloads are read at a time."""

SLOT_CHARACTERS = 64 * 1024
"""For so many characters of payload a request takes one more slot."""

Cursor = tuple[int, str]
"""How far rows were read: the moment (Unix µs) and the ID of the last."""
START: Cursor = (0, "")


@dataclass(slots=True)
class DueDelivery:
    """A delivery whose next attempt is due, with the event that it carries."""

    id: str
    merchant_id: int
    event_id: str
    webhook_id: str
    attempts: int
    step: int
    trigger: str
    type: str
    """The event's type, as receivers read it; "" where the event's data has expired."""
    payload: Payload | None
    hurries: int = 0
    delivered_at: int | None = None
    """When it was delivered (Unix µs), if it was and a person has it sent again."""
    due_at: int = 0
    """From when on it is due (Unix µs)."""
    hurried: bool = False
    """Whether it goes out before its scheduled time."""
    size: int = field(init=False, default=0)
    """How many characters of payload it holds in memory."""
    slots: int = field(init=False, default=1)
    """How many slots of its drain it takes: one, and one more for each SLOT_CHARACTERS of its
    payload, which is in memory several times while the request is under way."""

    def __post_init__(self) -> None:
        """Measure it once, for its size is asked for again and again."""
        if (payload := self.payload) is not None:
            self.size = len(payload.head) + len(payload.data or "") + len(payload.previous or "")
            self.slots += self.size // SLOT_CHARACTERS


@dataclass(frozen=True)
class Candidate:
    """A delivery that a held webhook may be probed with. `hurried` says that its scheduled time has
    not come."""

    id: str
    step: int
    trigger: str
    type: str
    is_retry: bool = False
    hurried: bool = False

    def is_last(self, schedule: Sequence[int]) -> bool:
        """Whether the next attempt is the last of its schedule. One that a person asks for is not
        part of the schedule."""
        return self.trigger != MANUAL and self.step + 1 >= len(schedule)


def read(
    webhook_id: str,
    *,
    is_retry: bool,
    moment: int,
    after: Cursor,
    count: int,
    ordered: bool,
    without: Collection[str] = (),
    known: Collection[str] = (),
    room: int = AT_ONCE,
) -> tuple[list[DueDelivery], Cursor | None]:
    """First attempts or retries that are due at `moment` (Unix µs), from the cursor `after` on,
    `without` some types and without the IDs that are `known`. At most `count`, and no more once
    their payloads have filled the `room` (characters). And where to read on; None at the end."""
    values = {
        "webhook_id": webhook_id,
        "is_retry": is_retry,
        "moment": moment,
        "after": after[0],
        "after_id": after[1],
    }
    if without:
        return _fitting(OLDEST[ordered], values, count, room, known, without)
    if ordered:
        return _fitting(DUE_IN_ORDER, values, count, room, known)
    # A read from the start meets those that are known again: they are due until recorded.
    most = count + (0 if after[0] else len(known))
    rows = db.session.execute(DUE, {**values, "count": most}).all()
    found, looked = _dues(rows, count, room, known)
    if looked == len(rows) < most:
        return found, None
    last = rows[looked - 1]
    return found, (last.next_attempt_at, last.id)


def waiting(
    webhook_id: str,
    *,
    moment: int,
    tried_before: int,
    after: Cursor,
    count: int,
    ordered: bool,
    without: Collection[str] = (),
    known: Collection[str] = (),
    room: int = AT_ONCE,
) -> tuple[list[DueDelivery], Cursor | None]:
    """Retries whose time is after `moment` though what they wait for may be over: the receiver was
    away at their last attempt, which was `tried_before` a moment (all Unix µs). `without` some
    types, without those that are `known`, and without those whose last two waits were cut short:
    otherwise a receiver that comes and goes, or that rejects a delivery with 5xx, would use up a
    schedule in no time. At most `count`, and no more once their payloads have filled the `room`.
    And where to read on; None at the end."""
    values = {
        "webhook_id": webhook_id,
        "moment": moment,
        "tried_before": tried_before,
        "after": after[0],
        "after_id": after[1],
        "hurries": 2,
        "whatever": False,
    }
    statement = (WAITING_TYPES if without else WAITING)[ordered]
    rows, cursor = _fitting(statement, values, count, room, known, without)
    for due in rows:
        due.hurried = True
    return rows, cursor


def find(candidate: Candidate) -> DueDelivery | None:
    """The delivery of a candidate; None if it has been finished meanwhile."""
    rows = db.session.execute(THESE, {"ids": [candidate.id]}).all()
    if not rows:
        return None
    (due,), _ = _dues(rows, 1, AT_ONCE)
    due.hurried = candidate.hurried
    return due


def candidates(webhook_id: str, moment: int, *, ordered: bool, dice: float) -> list[Candidate]:
    """What is due and may be a probe: first attempts before retries, each in the order of their
    time. They are the oldest, the newest, and some from between where there are more; `dice` in [0,
    1) says from where."""
    found: list[Candidate] = []
    for is_retry in (False, True):
        rows = _oldest_and_newest(
            {"webhook_id": webhook_id, "is_retry": is_retry, "moment": moment, "looked": ENDS},
            ordered=ordered,
            dice=dice,
        )
        found += [
            Candidate(row.id, row.step, row.trigger, row.type, is_retry) for row in rows if row.fits
        ]
    return found


def _oldest_and_newest(values: dict[str, Any], *, ordered: bool, dice: float) -> list[sa.Row[Any]]:
    oldest = _types(ordered, values, START)
    if len(oldest) < ENDS:
        return oldest
    newest = db.session.execute(NEWEST[ordered], values).all()[::-1]
    first, last = oldest[-1].next_attempt_at, newest[0].next_attempt_at
    between = _types(ordered, values, (first + int(dice * max(0, last - first)), ""))
    rows = {row.id: row for row in (*oldest, *between, *newest)}
    return sorted(rows.values(), key=lambda row: (row.next_attempt_at, row.id))


def _types(ordered: bool, values: dict[str, Any], after: Cursor) -> list[sa.Row[Any]]:
    return list(
        db.session.execute(OLDEST[ordered], {**values, "after": after[0], "after_id": after[1]})
    )


def waiting_candidates(
    webhook_id: str, moment: int, *, after: Cursor, ordered: bool, whatever: bool
) -> tuple[list[Candidate], Cursor | None]:
    """What waits for its time and may be a probe before that, the next to come first, from the
    cursor `after` on: only what was not sent before its time the last time, unless `whatever` waits
    is wanted. And where to read on; None at the end."""
    rows = db.session.execute(
        WAITING_TYPES[ordered],
        {
            "webhook_id": webhook_id,
            "moment": moment,
            "tried_before": moment,
            "looked": LOOKED,
            "after": after[0],
            "after_id": after[1],
            "whatever": whatever,
            "hurries": 1,
        },
    ).all()
    found = [
        Candidate(row.id, row.step, row.trigger, row.type, is_retry=True, hurried=True)
        for row in rows
        if row.fits
    ]
    return found, (rows[-1].next_attempt_at, rows[-1].id) if len(rows) == LOOKED else None


_Fields = tuple[str, int, str, str, int, int, str]


def _dues(
    rows: Sequence[Any], count: int, room: int, known: Collection[str] = ()
) -> tuple[list[DueDelivery], int]:
    """At most `count` deliveries of rows that are not `known`, and no more once they have filled
    the `room`, but at least one; and how many of the rows were looked at."""
    found: list[DueDelivery] = []
    texts: dict[str, _Texts] = {}
    for looked, row in enumerate(rows, 1):
        *fields, hurries, delivered_at, head, data, previous, due_at = row
        if fields[0] in known:
            continue
        if data == LEFT_OUT or previous == LEFT_OUT:
            if row.event_id not in texts:
                texts = _texts(rows[looked - 1 :], known)
            head, data, previous = texts.pop(row.event_id)
        # Joining the events for it would take a quarter of the time of a whole delivery.
        named = None if head is None else _TYPE.search(head)
        kind = "" if named is None else named[1]
        payload = None if head is None else Payload(head, data, previous)
        due = DueDelivery(*cast(_Fields, fields), kind, payload, hurries, delivered_at, due_at)
        room -= due.size
        found.append(due)
        if room <= 0 or len(found) == count:
            return found, looked
    return found, len(rows)


_Texts = tuple[str | None, str | None, str | None]


def _texts(rows: Sequence[Any], known: Collection[str]) -> dict[str, _Texts]:
    """The payloads of the first FEW rows that came without theirs, by event; of one that has
    expired meanwhile nothing."""
    large = [
        row.event_id for row in rows if LEFT_OUT in (row.data, row.previous) and row.id not in known
    ][:FEW]
    texts: dict[str, _Texts] = dict.fromkeys(large, (None, None, None))
    values = {"merchant_id": rows[0].merchant_id, "event_ids": large}
    for event_id, head, data, previous in db.session.execute(TEXTS, values).all():
        texts[event_id] = head, data, previous
    return texts


def _fitting(
    statement: sa.Select[Any],
    values: dict[str, Any],
    count: int,
    room: int,
    known: Collection[str],
    without: Collection[str] = (),
) -> tuple[list[DueDelivery], Cursor | None]:
    """At most `count` of the deliveries that fit, among those that a statement looks at, `without`
    some types and without those that are `known`, and no more once they have filled the `room`; and
    where to read on, None at the end."""
    looked_at = db.session.execute(statement, {**values, "looked": LOOKED}).all()
    cursor: Cursor | None = None
    cursors = dict[str, Cursor]()
    for row in looked_at:
        if len(cursors) == count:
            break
        cursor = row.next_attempt_at, row.id
        if row.fits and row.id not in known and not (without and row.type in without):
            cursors[row.id] = cursor
    if len(cursors) < count and len(looked_at) < LOOKED:
        cursor = None
    if not cursors:
        return [], cursor
    # Some may have been finished meanwhile.
    rows = {row.id: row for row in db.session.execute(THESE, {"ids": list(cursors)}).all()}
    fitting = [rows[one] for one in cursors if one in rows]
    found, looked = _dues(fitting, count, room)
    return found, cursors[found[-1].id] if looked < len(fitting) else cursor


_TYPE = re.compile(r'"type":"([^"]*)"')
"""In the head of a body. A type has no quotes, and those in other texts have a backslash."""
