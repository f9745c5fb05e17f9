"""Counting the logs by the hour, so that no page has to: off the hot path, each row once.

A row is counted when it has settled: by then everything that began before it is committed too.
The counts of a stretch and the moment up to which is counted stand in one transaction, so a run
that is killed, or that meets another, counts nothing twice and leaves nothing out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal import queues
from portal.clock import HOUR, MILLISECOND, MINUTE, now
from portal.counts import durations
from portal.db.session import insert_into, reading, table, writing
from portal.ids import moment_of_request_id, request_id_at
from portal.models import Attempt, AttemptCount, CountedUntil, Event, EventCount, Merchant
from portal.models.delivery import TEST
from portal.models.statistics import ALL

SETTLED = 4 * MINUTE
"""An attempt is in the log 3 minutes after it began (the longest timeout, and the commit); a minute
more for clocks that differ."""
BATCH = 20_000
"""Rows of a log that are counted at once, for which no write lock is held."""
LATE = HOUR
"""How late after the clock was set back a run may come, and still count anew all since then."""
RUN_SECONDS = 3.0
"""A run ends after this, and the next goes on from there: others wait for the same worker."""

_THE_ROW = 1
Counted = sa.Select[Any]


def run() -> int:
    """Count for RUN_SECONDS and queue what is left, as after an outage; the moment up to which is
    counted then (Unix µs). Entry point of the job."""
    until = count_new()
    if until < now() - SETTLED - MINUTE:
        queues.enqueue_next(queues.SUMMARIZE)
    return until


def count_new(moment: int | None = None) -> int:
    """Count what the logs have got since the last run and what has settled at `moment` (Unix µs,
    default now), for at most RUN_SECONDS; the moment up to which is counted then."""
    horizon = (now() if moment is None else moment) - SETTLED
    horizon -= horizon % MILLISECOND
    ends_at = time.monotonic() + RUN_SECONDS
    since = _counted_until(horizon)
    while since < horizon and time.monotonic() < ends_at:
        with reading() as session:
            until = _end_of_batch(session, since, horizon)
            attempts = session.execute(
                attempt_counts(
                    sa.select(Attempt).where(
                        Attempt.id >= request_id_at(since), Attempt.id < request_id_at(until)
                    )
                )
            ).all()
            events = session.execute(
                event_counts(
                    sa.select(Event).where(Event.received_at >= since, Event.received_at < until)
                )
            ).all()
        if not store(since, until, attempts, events):
            return until
        since = until
    return since


def attempt_counts(attempts: sa.Select[Any]) -> Counted:
    """Rows as AttemptCount has them, of the attempts that a query of the log selects."""
    log = attempts.subquery()
    rows = (
        sa.select(
            log.c.merchant_id,
            _hour(log.c.attempted_at).label("starts_at"),
            log.c.webhook_id,
            durations.class_of(log.c.duration_us).label("took"),
            sa.case((log.c.ok, 1), else_=0).label("ok"),
        )
        .where(log.c.trigger != TEST)
        .subquery()
    )
    key = (rows.c.merchant_id, rows.c.starts_at, rows.c.webhook_id, rows.c.took)
    return sa.select(
        *key, sa.func.count().label("attempts"), sa.func.sum(rows.c.ok).label("successes")
    ).group_by(*key)


def event_counts(events: sa.Select[Any]) -> Counted:
    """Rows as EventCount has them, of the events that a query of the log selects."""
    log = events.subquery()
    rows = (
        sa.select(log.c.merchant_id, _hour(log.c.received_at).label("starts_at"))
        .where(sa.not_(log.c.is_test))
        .subquery()
    )
    key = (rows.c.merchant_id, rows.c.starts_at)
    return sa.select(*key, sa.func.count().label("events")).group_by(*key)


def _hour(moment: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return moment - moment % sa.literal_column(str(HOUR))


def _counted_until(horizon: int) -> int:
    """Where the last run ended; at first, where the logs begin."""
    with reading() as session:
        found: int | None = session.scalar(sa.select(CountedUntil.moment))
    if found is not None and found <= horizon + SETTLED:
        return found
    with writing() as session:
        if found is None:
            start = _beginning(session, horizon)
            session.execute(
                insert_into(session, table(CountedUntil)).on_conflict_do_nothing(),
                [{"id": _THE_ROW, "moment": start}],
            )
            return start
        # The clock was set back: what is logged from now on lies before what is counted.
        start = horizon - LATE
        start -= start % HOUR
        for merchant_id in session.scalars(sa.select(Merchant.id)).all():
            for model in (AttemptCount, EventCount):
                session.execute(
                    sa.delete(model).where(
                        model.merchant_id == merchant_id, model.starts_at >= start
                    )
                )
        session.execute(sa.update(CountedUntil).values(moment=start))
        return start


def _beginning(session: scoped_session[Any], horizon: int) -> int:
    first_attempt = session.scalar(sa.select(Attempt.id).order_by(Attempt.id).limit(1))
    first_event = session.scalar(sa.select(Event.received_at).order_by(Event.received_at).limit(1))
    starts = [horizon]
    if first_attempt is not None:
        starts.append(moment_of_request_id(first_attempt))
    if first_event is not None:
        starts.append(first_event - first_event % MILLISECOND)
    return min(starts)


def _end_of_batch(session: scoped_session[Any], since: int, horizon: int) -> int:
    """The moment up to which each log has at most BATCH rows more; a whole millisecond at least."""
    ends = [horizon]
    attempt_id = session.scalar(
        sa.select(Attempt.id)
        .where(Attempt.id >= request_id_at(since), Attempt.id < request_id_at(horizon))
        .order_by(Attempt.id)
        .offset(BATCH)
        .limit(1)
    )
    if attempt_id is not None:
        ends.append(moment_of_request_id(attempt_id))
    received_at = session.scalar(
        sa.select(Event.received_at)
        .where(Event.received_at >= since, Event.received_at < horizon)
        .order_by(Event.received_at)
        .offset(BATCH)
        .limit(1)
    )
    if received_at is not None:
        ends.append(received_at - received_at % MILLISECOND)
    return max(min(ends), since + MILLISECOND)


def store(
    since: int, until: int, attempts: Sequence[sa.Row[Any]], events: Sequence[sa.Row[Any]]
) -> bool:
    """Add counts of the stretch from `since` to `until`; False when another run has done so."""
    with writing() as session:
        moved = session.execute(
            sa.update(CountedUntil)
            .where(CountedUntil.id == _THE_ROW, CountedUntil.moment == since)
            .values(moment=until)
        )
        if moved.rowcount != 1:  # type: ignore[attr-defined]
            return False
        counts = [dict(row._mapping) for row in attempts]
        add(session, table(AttemptCount), counts + _together(counts), ("attempts", "successes"))
        add(session, table(EventCount), [dict(row._mapping) for row in events], ("events",))
    return True


def _together(counts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same counts, of all webhooks of a merchant."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for count in counts:
        key = (count["merchant_id"], count["starts_at"], count["took"])
        found = sums.setdefault(key, count | {"webhook_id": ALL, "attempts": 0, "successes": 0})
        found["attempts"] += count["attempts"]
        found["successes"] += count["successes"]
    return list(sums.values())


def add(
    session: scoped_session[Any],
    counts: sa.Table,
    rows: list[dict[str, Any]],
    numbers: tuple[str, ...],
) -> None:
    """Add the `numbers` of these rows to what their keys have counted so far."""
    if not rows:
        return
    insert = insert_into(session, counts)
    session.execute(
        insert.on_conflict_do_update(
            index_elements=list(counts.primary_key),
            set_={name: counts.c[name] + insert.excluded[name] for name in numbers},
        ),
        rows,
    )
