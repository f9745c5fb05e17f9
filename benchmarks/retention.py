"""Row 15, the clean-up beside the rest: ingest, sweeps, mail and recoveries while it deletes some
nights' share of millions of events. `bin/bench --retention EVENTS`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
import sqlalchemy as sa

from benchmarks import history
from benchmarks.load import percentile
from benchmarks.product import web
from benchmarks.result import Row
from benchmarks.stand import Stand, order
from portal import queues
from portal.clock import DAY, SECOND, now
from portal.db.session import db
from portal.models import Webhook
from portal.recovery import recovery
from portal.recovery.selection import Selection
from portal.upkeep import retention

PER_SECOND = 30
CALM_SECONDS = 30
LONGEST_SECONDS = 1_200
"""Then the clean-up is not waited for any more."""
NIGHTS = 7
DAYS, PAYLOAD_DAYS = 60 + NIGHTS, 15 + NIGHTS
"""Of which the last seven are past their days, as after a week in which nobody ran the maintenance
worker: one night's share of three million events is gone in ten seconds, in which too few POSTs are
sent to say what one in a hundred waits for."""
FEWEST_POSTS = 1_500
"""Of fewer, beside the clean-up or without it, a single wait for the disk decides what their p99
is: four connections that wait for it together are four POSTs."""
RECOVERED = 15 * DAY // 4
"""What failed in so long is sent again: once before the clean-up, twice beside it, once after; of
so little in all that no record is past its days."""
LATE_SECONDS = 10.0
"""What sweeps, mail and recoveries may be late by: two sweeps."""
SETTLED = 6 * 60 * SECOND
"""How old rows are when they should have been counted and measured."""


class _Sender:
    """Events at an even pace, from four connections, until told to stop; when each POST should
    have begun (s), how long it took from then (ms), and what was answered otherwise than 202."""

    def __init__(self, url: str, key: str):
        self.posts: list[tuple[float, float]] = []
        self.refused: list[int] = []
        self._url, self._key = url, key
        self._stop = threading.Event()

    def __enter__(self) -> _Sender:
        self._pool = ThreadPoolExecutor(4)
        self._running = [self._pool.submit(self._send, place) for place in range(4)]
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for running in self._running:
            running.result()
        self._pool.shutdown()

    def _send(self, place: int) -> None:
        end = time.monotonic() + LONGEST_SECONDS
        following = time.perf_counter() + place / PER_SECOND
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        body = json.dumps(order(1)).encode()
        with requests.Session() as session:
            while not self._stop.is_set() and time.monotonic() < end:
                time.sleep(max(0.0, following - time.perf_counter()))
                # From the moment when it should have begun: what waits behind a slow one waits too.
                answer = session.post(self._url, data=body, headers=headers, timeout=60)
                took = (time.perf_counter() - following) * 1_000
                self.posts.append((following, took))
                if answer.status_code != 202:
                    self.refused.append(answer.status_code)
                following += 4 / PER_SECOND

    def milliseconds(self, since: float, seconds: float) -> list[float]:
        """How long the POSTs of so many seconds took, since a moment of `time.perf_counter()`."""
        return [took for begun, took in self.posts if 0 <= begun - since < seconds]


def clean_up(stand: Stand, events: int) -> Row:
    """A clean-up of a log of `events`, with PER_SECOND events beside it, and how late a sweep and a
    mail's turn come and a recovery ends meanwhile. It is compared with about as many seconds before
    it and after it that have as many such recoveries: what is sent again also keeps the machine
    busy."""
    stand.clear()
    (webhook,) = stand.webhooks(1)
    since = time.monotonic()
    history.fill(webhook, events, DAYS, PAYLOAD_DAYS)
    _settle()
    filled = time.monotonic() - since
    db.session.rollback()
    retention.sweep()
    turns: dict[str, list[float]] = {"sweep": [], "mail": []}
    with (
        web(stand) as url,
        stand.process("worker.py", "--part", "deliver", "--processes", "1"),
        stand.process("worker.py", "--part", "maintenance"),
        stand.process("worker.py", "--part", "cron"),
    ):
        # What is younger than the logs' beginning is counted and measured first, as in any portal
        # that ran: else the time before the clean-up would not be a quiet one.
        with _Sender(url, stand.key) as calm:
            _wait(lambda: _turn(queues.SWEEP) < 2, 600)
            _wait(lambda: _counted() > now() - SETTLED, 900)
            before = time.perf_counter()
            alone = _recovered(stand, webhook, 3)
            time.sleep(max(0.0, CALM_SECONDS - alone))
        with _Sender(url, stand.key) as busy:
            during = time.perf_counter()
            queues.queue_of(queues.MAINTENANCE).enqueue(queues.PURGE)
            _wait(lambda: _is_running() or _removed() > 0, 60)
            beside = _Recoveries(stand, webhook, [2, 1])
            while _is_running() and time.perf_counter() - during < LONGEST_SECONDS:
                turns["sweep"].append(_turn(queues.SWEEP))
                turns["mail"].append(_turn(queues.NOTIFY))
                beside.look()
            seconds = time.perf_counter() - during
        with _Sender(url, stand.key) as later:
            after = time.perf_counter()
            time.sleep(max(0.0, CALM_SECONDS - _recovered(stand, webhook, 0)))
    # Before and after, so that what else the machine does meets both.
    quiet = calm.milliseconds(before, seconds) + later.milliseconds(after, seconds)
    while_deleting = busy.milliseconds(during, seconds)
    ratio = percentile(while_deleting, 99) / percentile(quiet, 99)
    late = max(*turns["sweep"], *turns["mail"], beside.longest() - alone)
    detail: dict[str, Any] = {
        "posts_without": len(quiet),
        "posts_during": len(while_deleting),
        "p50_ms_without": percentile(quiet, 50),
        "p50_ms_during": percentile(while_deleting, 50),
        "p99_ms_without": percentile(quiet, 99),
        "p99_ms_during": percentile(while_deleting, 99),
        "longest_ms_without": max(quiet),
        "longest_ms_during": max(while_deleting),
        "refused": len(busy.refused),
        "rows_removed": _removed(),
        "seconds": seconds,
        "ended": str(not _is_running()),
        "sweep_late_at_most_s": max(turns["sweep"]),
        "mail_late_at_most_s": max(turns["mail"]),
        "recovery_s_before": alone,
        "recovery_s_during_at_most": beside.longest(),
        "seconds_to_fill": filled,
    }
    has_enough = min(len(quiet), len(while_deleting)) >= FEWEST_POSTS
    return Row(
        "15",
        f"POSTs while the clean-up of {events:,} events runs: p99 ÷ the p99 before and after",
        stand.kind,
        ratio,
        "×",
        f"≤ 3, no 503, others at most {LATE_SECONDS:g} s late",
        has_enough
        and ratio <= 3
        and not busy.refused
        and late <= LATE_SECONDS
        and not _is_running(),
        detail=detail,
    )


class _Recoveries:
    """Recoveries of some times of RECOVERED, one after another, and how long each takes (s)."""

    def __init__(self, stand: Stand, webhook: Webhook, bands: list[int]):
        self._stand, self._webhook, self._bands = stand, webhook, bands
        self._seconds: list[float] = []
        self._begin()

    def look(self) -> None:
        """Begin the next one where one has ended."""
        if self._begun and not _is_open(self._stand, self._begun):
            self._seconds.append(time.perf_counter() - self._since)
            self._begin()

    def longest(self) -> float:
        """How long the slowest took; until now, where one has not ended."""
        running = [time.perf_counter() - self._since] if self._begun else []
        return max(self._seconds + running)

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._begun = (
            _recover(self._stand, self._webhook, self._bands.pop(0)) if self._bands else ""
        )


def _recover(stand: Stand, webhook: Webhook, band: int) -> str:
    """Begin to send again what failed in a time of RECOVERED; band 0 is the latest. The recovery's
    ID."""
    latest = now() - band * RECOVERED
    wanted = Selection("send", ("failed",), webhook.id, since=latest - RECOVERED, before=latest)
    return recovery.start(stand.merchant.id, wanted, "cli")[0].id


def _recovered(stand: Stand, webhook: Webhook, band: int) -> float:
    """The same until it has ended; how long that took (s)."""
    started, begun = time.perf_counter(), _recover(stand, webhook, band)
    _wait(lambda: not _is_open(stand, begun), 300)
    return time.perf_counter() - started


def _is_open(stand: Stand, recovery_id: str) -> bool:
    found = recovery.find(stand.merchant.id, recovery_id).is_open
    # Else the next look would see the same moment of the database.
    db.session.rollback()
    return found


def _turn(path: str) -> float:
    """How long a job waits for its turn in the maintenance worker, and for its end (s)."""
    queue = queues.queue_of(queues.MAINTENANCE)
    started = time.monotonic()
    job = queue.enqueue(path, result_ttl=60)
    _wait(lambda: job.get_status(refresh=True).value == "finished", 300)
    return time.monotonic() - started


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"it took more than {seconds} s")
        time.sleep(0.05)


def _is_running() -> bool:
    found = retention.latest()
    return found is not None and found.is_running


def _removed() -> int:
    found = retention.latest()
    return sum(found.removed.values()) if found else 0


def _counted() -> int:
    """Up to when the logs are counted, and what is stored is measured."""
    db.session.rollback()
    moment: int | None = db.session.scalar(
        sa.text(
            "SELECT CASE WHEN COUNT(*) = 3 THEN MIN(moment) END FROM (SELECT moment FROM "
            "counted_until "
            "UNION ALL SELECT moment FROM measured_until WHERE id IN (1, 2)) AS moments"
        )
    )
    db.session.rollback()
    return moment or 0


def _settle() -> None:
    """Leave PostgreSQL as it is after months: what autovacuum does to a log that has grown by
    itself for 60 days it does to one that was filled at once right afterwards, for minutes, and
    its checkpoints with it, each of which makes commits wait for the disk."""
    if db.engine.dialect.name != "postgresql":
        return
    with db.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            connection.execute(sa.text(statement))
