"""5 RETENTION: delete what is past its days, in batches, never what is still owed.

Events and header logs are kept PORTAL_EVENT_DAYS, payload logs and record data
PORTAL_PAYLOAD_DAYS; a merchant may have periods of its own (portal.upkeep.expiry).

A clean-up is a row, and each batch is written together with it; so it may stop at any moment, and
one whose worker was killed goes on from its last batch. Its jobs work for some seconds each and
hand on by a token, as recoveries do, so that sweeps, mail and recoveries get their turn between
them. Cron queues the first at PORTAL_RETENTION_CRON; one that was missed is begun by the sweep.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
from croniter import CroniterError, croniter
from flask import current_app

from portal import clock_watch, queues
from portal.clock import HOUR, MINUTE, SECOND, now, readable
from portal.db.session import insert_into, reading, table, writing
from portal.db.slices import hand_on
from portal.delivery import actions
from portal.errors import Conflict, Unavailable
from portal.models import CleanUp, OperationsEntry
from portal.upkeep.expiry import EVENTS, FIRST, LOGS, PAYLOADS, Key, Periods, Session, Walk, walks

BATCH_SECONDS = 0.01
"""How long a batch may hold SQLite's write lock; how many rows that is, is learned as it goes."""
FEWEST_ROWS, FIRST_ROWS, MOST_ROWS = 50, 100, 1_000
REST_SECONDS = 0.02
"""Pause between batches, in which ingest and workers write; as long as the batch took if that is
longer."""
RUN_SECONDS = 2.0
"""How long one job works before the next in the queue has its turn."""
STALE = 30 * SECOND
"""A clean-up without a sign of life for so long has lost its worker."""
MISSED = 2 * MINUTE
"""How long cron has to queue a clean-up whose time has come."""
LATE = 2 * HOUR
"""How long after its time a clean-up should have ended."""
KIND = "retention"
"""Of entries in the operations log."""

_THE_ROW = 1
_row = table(CleanUp)
_log = logging.getLogger(__name__)


def purge_expired(*, dry_run: bool = False, moment: int | None = None) -> dict[str, int]:
    """Delete what is past its days at `moment` (Unix µs, default now) to the end, here and now;
    rows per table. One that is under way elsewhere stops, and its rows are counted too.

    Killed in the middle, it goes on from there within a minute. What a pending delivery needs is
    kept however old it is. `dry_run` counts and deletes nothing. One line of what was removed
    goes into the operations log. Raises Unavailable, and Conflict while the clock is in doubt.
    """
    moment = now() if moment is None else moment
    if dry_run:
        return _count(Periods(moment))
    if doubt := clock_watch.doubt():
        raise Conflict(doubt.sentence)
    token: int | None = _begin(moment)
    while token is not None:
        token = _work(token)
    with reading() as session:
        removed = session.scalar(sa.select(CleanUp.removed)) or {}
    return _of_logs(removed)


def run(token: int | None = None, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Work on the clean-up for RUN_SECONDS, or until `should_stop`, and queue what is left; how
    many rows it has deleted until now. Entry point of the job.

    Without a token one begins, unless one is under way or has just begun; with an old one nothing
    is done.
    """
    try:
        if token is None:
            token = _begin_if_idle()
        following = None if token is None else _work(token, should_stop)
        if following is not None:
            queues.enqueue_purge(following)
        with reading() as session:
            return sum((session.scalar(sa.select(CleanUp.removed)) or {}).values())
    except Unavailable as error:
        # The sweep queues it again.
        _log.warning("The clean-up waits: %s", error)
        return 0


def sweep() -> int:
    """Begin a clean-up that was missed, and queue one that has lost its worker or its job; 1 if
    there was one. Note in the operations log what was missed, and once, what takes too long."""
    clean_up, moment = latest(), now()
    if clean_up is None:
        with writing() as session:
            _locked(session)
        return 0
    if not clean_up.is_running:
        missed = _missed(clean_up, moment)
        return 0 if missed is None else _begin_missed(missed)
    if clean_up.warned_at is None and is_late(clean_up, moment):
        warn(clean_up.began_at)
    is_alive = abs(moment - clean_up.worked_at) < STALE
    if is_alive or queues.waits_for_purge(clean_up.token):
        return 0
    with writing() as session:
        following = _hand_on(session, clean_up.token)
    if following is not None:
        queues.enqueue_purge(following)
    return 1


def latest() -> CleanUp | None:
    """The clean-up that is under way, or the last one; None before the first was due."""
    with reading() as session:
        found = session.get(CleanUp, _THE_ROW, populate_existing=True)
        if found is not None:
            session.expunge(found)
        return found


def is_late(clean_up: CleanUp, moment: int) -> bool:
    """Whether one that was due has not ended long after its time, at a moment (Unix µs)."""
    scheduled = scheduled_before(moment - LATE)
    since = clean_up.began_at if clean_up.finished_at is None else clean_up.finished_at
    return scheduled is not None and since < scheduled


# ── When ──────────────────────────────────────────────────────────────────────────────────


def _missed(clean_up: CleanUp, moment: int) -> int | None:
    """When one should have begun and did not."""
    scheduled = scheduled_before(moment - MISSED)
    # After the clock was set back the last one began in the future, and says nothing.
    if scheduled is None or scheduled <= clean_up.began_at <= moment + MISSED:
        return None
    return scheduled


def scheduled_before(moment: int) -> int | None:
    """When PORTAL_RETENTION_CRON last had its time before a moment (Unix µs); None if never."""
    line: str = current_app.config["PORTAL"].retention_cron
    # As RQ reads it: in the machine's local time.
    times = croniter(line, datetime.fromtimestamp(moment // SECOND))
    scheduled = None
    try:
        # In the night in which clocks go forward, a time that they leave out is only to come.
        while scheduled is None or scheduled > moment:
            scheduled = int(times.get_prev(datetime).timestamp()) * SECOND
    except CroniterError:
        return None
    return scheduled


def _begin(moment: int) -> int:
    with writing() as session:
        clean_up = _locked(session)
        clean_up.begin(moment, now())
        return clean_up.token


def _begin_if_idle() -> int | None:
    moment = clock_watch.sure_moment()
    if moment is None:
        # The sweep begins it when the clock is in doubt no more.
        return None
    with writing() as session:
        clean_up = _locked(session)
        just_began = 0 <= moment - clean_up.began_at < MINUTE and clean_up.token > 0
        if clean_up.is_running or just_began:
            return None
        clean_up.begin(moment, moment)
        return clean_up.token


def _begin_missed(scheduled: int) -> int:
    token = _begin_if_idle()
    if token is None:
        return 0
    _note(
        f"The clean-up that was due at {readable(scheduled)} did not begin: nobody ran cron or the "
        "maintenance worker then, or the clock was changed. It begins now."
    )
    queues.enqueue_purge(token)
    return 1


def warn(began_at: int) -> None:
    """Tell the operators, once, that this run did not get to its end."""
    with writing() as session:
        # By when it began, for its token rises with each run; of two sweeps one says it.
        warned = session.execute(
            sa.update(_row)
            .where(
                _row.c.began_at == began_at, _row.c.moment.is_not(None), _row.c.warned_at.is_(None)
            )
            .values(warned_at=now())
        )
        if cast(sa.CursorResult[Any], warned).rowcount == 1:
            session.add(
                OperationsEntry(
                    kind=KIND,
                    message=(
                        f"The clean-up that began at {readable(began_at)} has not ended. "
                        f"It goes on; "
                        "look whether the maintenance worker runs, and whether the "
                        "database answers."
                    ),
                )
            )


def _note(message: str) -> None:
    with writing() as session:
        session.add(OperationsEntry(kind=KIND, message=message))


def _locked(session: Session) -> CleanUp:
    """The row, made where there is none: the first clean-up is due at the next scheduled time
    after the last that an earlier version has noted."""
    if session.get(CleanUp, _THE_ROW) is None:
        last = session.scalar(
            sa.select(OperationsEntry.at)
            .where(OperationsEntry.kind == KIND)
            .order_by(OperationsEntry.at.desc())
            .limit(1)
        )
        since = now() if last is None else last
        session.execute(
            insert_into(session, _row).on_conflict_do_nothing(),
            [
                {
                    "id": _THE_ROW,
                    "token": 0,
                    "removed": {},
                    "work_us": 0,
                    "began_at": since,
                    "worked_at": since,
                    "finished_at": last,
                }
            ],
        )
    return session.scalars(
        sa.select(CleanUp)
        .where(CleanUp.id == _THE_ROW)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


# ── The work ──────────────────────────────────────────────────────────────────────────────


class _Pace:
    """How many rows make a batch of BATCH_SECONDS."""

    def __init__(self) -> None:
        self.rows = FIRST_ROWS

    def learn(self, removed: int, seconds: float) -> None:
        """Take note of a batch; a small one says nothing of how large it may be."""
        wanted = self.rows * BATCH_SECONDS / max(seconds, 1e-4)
        if wanted > self.rows and removed < self.rows // 2:
            return
        bounded = min(max(wanted, self.rows / 2), self.rows * 2)
        self.rows = int(min(max(bounded, FEWEST_ROWS), MOST_ROWS))


def _work(token: int, should_stop: Callable[[], bool] = lambda: False) -> int | None:
    """Work for RUN_SECONDS, and one look at least, so that each run is further than the last; the
    token of the next run, None when all is done or another has it."""
    with reading() as session:
        found = session.execute(
            sa.select(_row.c.moment, _row.c.cursor).where(_row.c.token == token)
        ).first()
    if found is None or found.moment is None:
        return None
    if found.cursor is None:
        # Or it would keep its events and their record data for ever.
        actions.discard_of_deleted()
    started = time.monotonic()
    mark, after = found.cursor or [None, None]
    periods, pace, has_looked = Periods(found.moment), _Pace(), False
    for walk in walks(periods, start=FIRST if mark is None else tuple(mark)):
        if list(walk.mark) != mark:
            after = None
        is_over = False
        while not is_over:
            is_time = has_looked and time.monotonic() - started > RUN_SECONDS
            if is_time or should_stop():
                return _pause(token, [list(walk.mark), after], started)
            with reading() as session:
                rows = session.execute(walk.look(after, pace.rows)).all()
            has_looked, is_over = True, len(rows) < pace.rows
            expired = [tuple(row)[:-1] for row in rows if not row.is_kept]
            after = list(rows[-1])[:-1] if rows else after
            if expired and not _remove(token, walk, expired[0], expired[-1], after, pace):
                return None
    _finish(token, periods, started)
    return None


def _remove(
    token: int, walk: Walk, first: Key, last: Key, after: list[object] | None, pace: _Pace
) -> bool:
    """Delete a batch and write how far it is, together, and rest; False when another run has the
    clean-up."""
    with writing() as session:
        began = time.monotonic()
        # The lock: whoever holds the row's, on SQLite the database's, deletes this batch.
        clean_up = session.scalar(
            sa.select(CleanUp).where(CleanUp.token == token).with_for_update()
        )
        if clean_up is None:
            return False
        removed = walk.remove(session, first, last)
        name = walk.log.name
        clean_up.removed = clean_up.removed | {name: clean_up.removed.get(name, 0) + removed}
        clean_up.cursor, clean_up.worked_at = [list(walk.mark), after], now()
    took = time.monotonic() - began
    pace.learn(removed, took)
    time.sleep(max(took, REST_SECONDS))
    return True


def _pause(token: int, cursor: list[object], started: float) -> int | None:
    with writing() as session:
        session.execute(
            sa.update(_row)
            .where(_row.c.token == token)
            .values(cursor=cursor, work_us=_row.c.work_us + _since(started))
        )
        return _hand_on(session, token)


def _hand_on(session: Session, token: int) -> int | None:
    return hand_on(session, _row, token, _row.c.moment.is_not(None))


def _finish(token: int, periods: Periods, started: float) -> None:
    with writing() as session:
        clean_up = session.scalar(
            sa.select(CleanUp).where(CleanUp.token == token).with_for_update()
        )
        if clean_up is None:
            return
        clean_up.work_us += _since(started)
        clean_up.finish(now())
        counts = _of_logs(clean_up.removed)
        message = ", ".join(f"{count:,} of {name}" for name, count in counts.items())
        session.add(
            OperationsEntry(
                kind=KIND,
                message=(
                    f"Removed {message} in {clean_up.work_us / SECOND:.1f} s of work since "
                    f"{readable(clean_up.began_at)}. Events before "
                    f"{readable(periods.default(EVENTS))} "
                    f"and payloads before {readable(periods.default(PAYLOADS))} are past "
                    f"their days."
                ),
            )
        )


def _since(started: float) -> int:
    return int((time.monotonic() - started) * SECOND)


def _of_logs(removed: dict[str, int]) -> dict[str, int]:
    return {log.name: removed.get(log.name, 0) for log in LOGS}


def _count(periods: Periods) -> dict[str, int]:
    counts = _of_logs({})
    for walk in walks(periods, LOGS):
        after, is_over = None, False
        while not is_over:
            with reading() as session:
                rows = session.execute(walk.look(after, MOST_ROWS)).all()
            counts[walk.log.name] += sum(not row.is_kept for row in rows)
            after, is_over = (list(rows[-1])[:-1] if rows else None), len(rows) < MOST_ROWS
    return counts
