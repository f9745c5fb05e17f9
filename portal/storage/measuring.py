"""Measuring what the logs hold of each merchant: off the hot path, each row once, by what is new.

A row is measured when it has settled, soon after it came in: the sums of a stretch and the moment
up to which is measured stand in one transaction, as in portal.counts.counting, so a run that is
killed, or that meets another, adds nothing twice. A deletion takes off what was added, in its own
transaction (portal.storage.sizes); of what is not measured yet it raises a token, and who was
reading that begins anew.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal import queues
from portal.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND, now
from portal.db.session import db, insert_into, reading, writing
from portal.storage import allowance
from portal.storage.sizes import (
    ALL,
    CLOCKS,
    COMING,
    FOR_EVER,
    PARTS,
    SENDING,
    STAYING,
    WEBHOOKS,
    MeasuredLog,
    Sums,
    add,
    add_webhooks_deleted_before,
    bytes_table,
    row_bytes,
    until_table,
)

SETTLED = {
    # The moment of an event is taken while it is SQLite's one writer; a transaction of PostgreSQL
    # may end as late as its process may stand still in it (portal.db.session.STOPPED_SECONDS).
    COMING: {"sqlite": 5 * SECOND, "postgresql": 45 * SECOND},
    # An attempt, or a test's delivery, is in the log three minutes after it began.
    SENDING: {"sqlite": 4 * MINUTE, "postgresql": 4 * MINUTE},
    STAYING: {"sqlite": 5 * SECOND, "postgresql": 45 * SECOND},
}
"""How old rows are when all that began before them is committed."""
BATCH = 2_000
"""Rows of each log that are read at once, with no lock held."""
RUN_SECONDS = 1.0
"""A run ends after this, and the next goes on from there: others wait for the same worker."""
LATE = HOUR
"""How late after the clock was set back a run may come, and still measure anew all since then."""

Session = scoped_session[Any]


def run() -> bool:
    """Measure for RUN_SECONDS and queue what is left, as of a database with a long past; whether
    something is. Entry point of the job."""
    is_left = measure()
    if is_left:
        queues.enqueue_next(queues.MEASURE)
    return is_left


def measure(moment: int | None = None, seconds: float = RUN_SECONDS) -> bool:
    """Measure what has come in and had settled at `moment` (Unix µs, default now), for about so
    many seconds; whether something is left to measure."""
    moment = now() if moment is None else moment
    _follow_clock(moment)
    dialect = db.engine.dialect.name
    ends_at = time.monotonic() + seconds
    for clock in CLOCKS:
        horizon = moment - SETTLED[clock][dialect]
        horizon -= horizon % MILLISECOND
        while _step(clock, horizon, dialect):
            if time.monotonic() > ends_at:
                return True
    _count_webhooks_deleted_before()
    _note_first_time(moment)
    return False


def _step(clock: int, horizon: int, dialect: str) -> bool:
    """Measure a stretch of a day at most; whether there was something to measure."""
    parts = [part for part in PARTS if part.clock == clock]
    with reading() as session:
        since, token = session.execute(
            sa.select(until_table.c.moment, until_table.c.token).where(until_table.c.id == clock)
        ).one()
        start = _first(session, parts, since)
        if start is None or start >= horizon:
            # The moment stays where it is: what comes late is measured then.
            return False
        until = _end_of_batch(session, parts, start, horizon)
        sums: Sums = defaultdict(lambda: {"logs": 0, "payloads": 0})
        for part in parts:
            for merchant_id, size in session.execute(sizes(part, start, until, dialect)):
                sums[merchant_id][part.column] += int(size)
    day = FOR_EVER if clock == STAYING else start - start % DAY
    store(clock, since, token, until, day, sums)
    return True


def sizes(part: MeasuredLog, since: int, until: int, dialect: str) -> sa.Select[Any]:
    """What the rows of a log from one moment to before another (Unix µs) count as, by merchant."""
    log = part.table
    return (
        sa.select(log.c.merchant_id, sa.func.sum(row_bytes(log, dialect)))
        .where(
            part.key >= part.bound(since),
            part.key < part.bound(until),
            log.c.merchant_id.is_not(None),
        )
        .group_by(log.c.merchant_id)
    )


def _first(session: Session, parts: list[MeasuredLog], since: int) -> int | None:
    """The moment of the first row that is not measured yet, to the millisecond below."""
    found = [
        part.moment_of(key)
        for part in parts
        if (
            key := session.scalar(
                sa.select(part.key).where(part.key >= part.bound(since)).order_by(part.key).limit(1)
            )
        )
        is not None
    ]
    return min(found) // MILLISECOND * MILLISECOND if found else None


def _end_of_batch(session: Session, parts: list[MeasuredLog], start: int, horizon: int) -> int:
    """The moment up to which each log has at most BATCH rows more, and which is not of another
    day; a whole millisecond at least."""
    ends = [horizon, start - start % DAY + DAY]
    for part in parts:
        key = session.scalar(
            sa.select(part.key)
            .where(part.key >= part.bound(start), part.key < part.bound(min(ends)))
            .order_by(part.key)
            .offset(BATCH)
            .limit(1)
        )
        if key is not None:
            ends.append(part.moment_of(key) // MILLISECOND * MILLISECOND)
    return max(min(ends), start + MILLISECOND)


def store(clock: int, since: int, token: int, until: int, day: int, sums: Sums) -> None:
    """Add what a stretch of a day holds, and be further; nothing where another run was faster, or
    something of it was deleted meanwhile."""
    with writing() as session:
        moved = session.execute(
            sa.update(until_table)
            .where(
                until_table.c.id == clock,
                until_table.c.moment == since,
                until_table.c.token == token,
            )
            .values(moment=until)
        )
        if cast(sa.CursorResult[Any], moved).rowcount != 1 or not sums:
            return
        add(session, day, sums)
        if until % DAY == 0:
            # Days of which nothing is left in any log.
            beginning = _first(session, [part for part in PARTS if part.clock != STAYING], 0)
            if beginning is not None:
                starts_at = bytes_table.c.starts_at
                _forget(session, starts_at.between(FOR_EVER + 1, beginning - DAY - 1))


def _follow_clock(moment: int) -> None:
    """Make the rows that say up to when is measured; and begin the day anew where the clock was set
    back, for what is logged from now on would lie before what is measured."""
    with reading() as session:
        found = dict(
            session.execute(
                sa.select(until_table.c.id, until_table.c.moment).where(
                    until_table.c.id.in_(CLOCKS)
                )
            ).all()
        )
    # Of what stays, nothing is measured anew: it is not kept by the day.
    was_set_back = any(found.get(clock, 0) > moment for clock in (COMING, SENDING))
    if len(found) == len(CLOCKS) and not was_set_back:
        return
    start = moment - LATE
    start -= start % DAY
    with writing() as session:
        session.execute(
            insert_into(session, until_table).on_conflict_do_nothing(),
            [{"id": clock, "moment": 0, "token": 0} for clock in CLOCKS],
        )
        if was_set_back:
            _forget(session, bytes_table.c.starts_at >= start)
            session.execute(
                sa.update(until_table)
                .where(until_table.c.id.in_((COMING, SENDING)))
                .values(
                    moment=sa.case(
                        (until_table.c.moment > start, start), else_=until_table.c.moment
                    ),
                    token=until_table.c.token + 1,
                )
            )


def _count_webhooks_deleted_before() -> None:
    known = sa.select(until_table.c.id).where(until_table.c.id == WEBHOOKS)
    with reading() as session:
        if session.scalar(known) is not None:
            return
    with writing() as session:
        add_webhooks_deleted_before(session)


def _note_first_time(moment: int) -> None:
    """From now on events may be refused, of nobody who has stored much before it was measured."""
    is_first = sa.select(until_table.c.id).where(until_table.c.id == ALL)
    with reading() as session:
        if session.scalar(is_first) is not None:
            return
    with writing() as session:
        noted = session.scalar(
            insert_into(session, until_table)
            .values(id=ALL, moment=moment, token=0)
            .on_conflict_do_nothing()
            .returning(until_table.c.id)
        )
        if noted is not None:
            allowance.give_room(session)


def _forget(session: Session, which: sa.ColumnElement[bool]) -> None:
    session.execute(sa.delete(bytes_table).where(which))
