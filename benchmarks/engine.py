"""Rows 1, 2, 6, 7, 9, 10 and 11: the engine in one process."""

from __future__ import annotations

import collections
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from benchmarks import baselines
from benchmarks.load import percentile
from benchmarks.result import Row, interleaved, ratio
from benchmarks.stand import ROOT, Stand
from portal.config import Config
from portal.db.session import db
from portal.delivery import drain
from portal.delivery.paces import Paces
from portal.delivery.recorder import Batch, Recorder, commit

PACES = Paces(linger_seconds=0.05)
"""A drain that lingers for no time at all ends while its first requests are under way."""
WEBHOOKS = 10
IN_FLIGHT = 200
"""WEBHOOKS times the default cap of 20."""


def drained(stand: Stand, owed: int) -> float:
    """Seconds until everything that is owed was sent and logged; each delivery is looked for in
    the receiver's ledger."""
    stand.receiver.news()
    config = stand.app.config["PORTAL"]
    last = started = time.perf_counter()
    done = 0

    def commit_timed(batch: Batch, config: Config) -> None:
        # A drain that has nothing left listens for more before it ends, which is no part of the
        # work: that ends with the last results.
        nonlocal last
        commit(batch, config)
        if batch.results:
            last = time.perf_counter()

    while done < owed:
        for lane in range(config.lanes):
            recorder = Recorder(stand.app, config, commit_timed)
            done += drain.Drain(lane, recorder=recorder, paces=PACES).run()
    _verify(stand, owed)
    return last - started


def _verify(stand: Stand, owed: int) -> None:
    received = len(stand.receiver.news())
    logged = db.session.scalar(sa.text("SELECT count(*) FROM delivery WHERE state = 'succeeded'"))
    db.session.rollback()
    if received != owed or logged != owed:
        raise RuntimeError(f"{owed} owed, {received} received, {logged} logged as succeeded")


def whole_delivery(stand: Stand, events: int, repeats: int) -> list[Row]:
    """Rows 1 and 10."""
    counts: collections.Counter[str] = collections.Counter()

    def ours() -> float:
        stand.clear()
        stand.webhooks(WEBHOOKS)
        owed = stand.owe(events // WEBHOOKS)
        with _counted(stand, counts):
            return owed / drained(stand, owed)

    def theirs() -> float:
        requests = baselines.composed()
        seconds = baselines.bare_libcurl(requests, IN_FLIGHT)
        if len(stand.receiver.news()) != len(requests):
            raise RuntimeError("the receiver did not get every request of the bare loop")
        return len(requests) / seconds

    mine, bare = interleaved(repeats, ours, theirs)
    least = 0.45 if stand.kind == "sqlite" else 0.25
    total = repeats * events
    per_delivery = {name: round(count / total, 4) for name, count in counts.items()}
    limits = {"commits": 0.05, "statements": 0.1, "redis_operations": 0.05}
    return [
        ratio("1", "Whole delivery ÷ bare libcurl multi loop", stand.kind, mine, bare, least),
        Row(
            "10",
            "Commits, SQL statements and Redis operations of one delivery",
            stand.kind,
            per_delivery["statements"],
            "SQL statements",
            "≤ 0.05 commits, ≤ 0.1 statements, ≤ 0.05 Redis operations",
            all(per_delivery.get(name, 0) <= most for name, most in limits.items()),
            detail=per_delivery,
        ),
    ]


@contextmanager
def _counted(stand: Stand, counts: collections.Counter[str]) -> Iterator[None]:
    def statement(*_: Any) -> None:
        counts["statements"] += 1

    def commit(*_: Any) -> None:
        counts["commits"] += 1

    def operations() -> int:
        return int(stand.redis.info("stats")["total_commands_processed"])

    sa.event.listen(db.engine, "before_cursor_execute", statement)
    sa.event.listen(db.engine, "commit", commit)
    before = operations()
    try:
        yield
    finally:
        counts["redis_operations"] += operations() - before - 1
        sa.event.remove(db.engine, "before_cursor_execute", statement)
        sa.event.remove(db.engine, "commit", commit)


def one_job_each(stand: Stand, events: int, repeats: int) -> Row:
    """Row 2: against the usual way, one RQ job for each delivery."""
    jobs = max(60, events // 40)
    url = stand.environment["PORTAL_DATABASE_URL"]
    with db.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS bench_log"))
        connection.execute(
            sa.text("CREATE TABLE bench_log (event_id TEXT, status INTEGER, body TEXT)")
        )

    def ours() -> float:
        stand.clear()
        stand.webhooks(WEBHOOKS)
        owed = stand.owe(events // WEBHOOKS)
        return owed / drained(stand, owed)

    def theirs() -> float:
        queue = Queue("bench", connection=stand.redis, serializer=JSONSerializer)
        for one in baselines.composed()[:jobs]:
            assert one.body is not None
            queue.enqueue(baselines.deliver_one, url, one.url, dict(one.headers), one.body.decode())
        db.session.rollback()
        worker = SimpleWorker([queue], connection=stand.redis, serializer=JSONSerializer)
        started = time.perf_counter()
        worker.work(burst=True, logging_level="ERROR")
        seconds = time.perf_counter() - started
        if len(stand.receiver.news()) != jobs:
            raise RuntimeError("the receiver did not get every job's request")
        return jobs / seconds

    mine, others = interleaved(repeats, ours, theirs)
    return ratio(
        "2",
        "Whole delivery ÷ one RQ job a delivery (requests, one insert)",
        stand.kind,
        mine,
        others,
        25,
    )


def hanging(stand: Stand, events: int, repeats: int) -> Row:
    """Row 6: one webhook in five hangs until the deadline."""
    good = 8
    tails: list[tuple[float, float]] = []

    def others(hangs: bool) -> tuple[float, float]:
        stand.clear()
        ids = {webhook.id for webhook in stand.webhooks(good)}
        if hangs:
            stand.webhooks(2, "/hang", timeout_seconds=2, retry_schedule=[0])
        owed = stand.owe(events // good)
        started = time.time_ns() // 1_000
        # The hanging ones are left to their deadlines when the others are done.
        drain.drain(0, should_stop=_when_done(ids), paces=PACES)
        drain.drain(1, should_stop=_when_done(ids), paces=PACES)
        moments = sorted(
            db.session.execute(
                sa.text("SELECT attempted_at + duration_us FROM attempt WHERE ok")
            ).scalars()
        )
        db.session.rollback()
        if len(moments) != events // good * good or owed < len(moments):
            raise RuntimeError(f"{len(moments)} of {events} arrived")
        waits = [(moment - started) / 1_000 for moment in moments]
        return len(moments) / (waits[-1] / 1_000), percentile(waits, 99)

    def with_them() -> float:
        rate, tail = others(True)
        tails.append((tail, 0.0))
        return rate

    def without() -> float:
        rate, tail = others(False)
        tails[-1] = (tails[-1][0], tail)
        return rate

    mine, alone = interleaved(repeats, with_them, without)
    row = ratio(
        "6",
        "Others' rate while 20 % of webhooks hang ÷ while none does",
        stand.kind,
        mine,
        alone,
        0.9,
    )
    row.target = "≥ 0.9, p99 ≤ 2×"
    slower = statistics.median(tail / calm for tail, calm in tails)
    row.detail["p99_ratio"] = slower
    row.reached = row.reached and slower <= 2
    return row


def _when_done(webhook_ids: set[str]) -> Any:
    """Whether nothing is owed to these webhooks any more; asked of the database now and then."""
    state = {"at": 0.0, "done": False}
    listed = ", ".join(f"'{webhook_id}'" for webhook_id in webhook_ids)

    def ask() -> bool:
        if time.monotonic() >= state["at"]:
            state["at"] = time.monotonic() + 0.1
            left = db.session.scalar(
                sa.text(
                    "SELECT 1 FROM delivery WHERE state = 'pending' AND webhook_id IN "
                    f"({listed}) LIMIT 1"
                )
            )
            db.session.rollback()
            state["done"] = left is None
        return bool(state["done"])

    return ask


def slow_receivers(stand: Stand, events: int, repeats: int) -> Row:
    """Row 7: every receiver takes 200 ms."""
    webhooks = 40
    rates = []
    for _ in range(repeats):
        stand.clear()
        stand.webhooks(webhooks, "/delay/200")
        owed = stand.owe(events // webhooks)
        rates.append(owed / drained(stand, owed))
    rate = statistics.median(rates)
    return Row(
        "7",
        "Deliveries a second to receivers that take 200 ms, one worker",
        stand.kind,
        rate,
        "per second",
        "≥ 2,000 per second",
        rate >= 2_000,
        rates,
        {"webhooks": webhooks, "in_flight_at_most": webhooks * 20},
    )


def fan_out(stand: Stand, events: int, repeats: int) -> Row:
    """Row 9: fifty webhooks an event against one event a delivery."""

    def rate(webhooks: int) -> float:
        stand.clear()
        stand.webhooks(50)
        if webhooks == 1:
            # As many webhooks with as much owed to each, but an event of its own for each.
            db.session.execute(sa.text("UPDATE webhook SET only_sources = '[\"none\"]'"))
            db.session.commit()
            ids = list(db.session.scalars(sa.text("SELECT id FROM webhook")))
            for webhook_id in ids:
                db.session.execute(
                    sa.text("UPDATE webhook SET only_sources = '[]' WHERE id = :id"),
                    {"id": webhook_id},
                )
                db.session.commit()
                stand.owe(events // 50)
                db.session.execute(
                    sa.text("UPDATE webhook SET only_sources = '[\"none\"]' WHERE id = :id"),
                    {"id": webhook_id},
                )
                db.session.commit()
            owed = events // 50 * 50
        else:
            owed = stand.owe(events // 50)
        return owed / drained(stand, owed)

    many, one = interleaved(repeats, lambda: rate(50), lambda: rate(1))
    return ratio("9", "Fan-out of 50 ÷ fan-out of 1, deliveries a second", stand.kind, many, one, 1)


def memory(stand: Stand) -> Row:
    """Row 11: a process with 1,000 requests in flight against a bare loop with as many."""
    stand.clear()
    stand.webhooks(50, "/delay/1000")
    owed = stand.owe(40)
    sizes = {}
    for way in ("drain", "bare"):
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.engine", way],
            cwd=ROOT,
            check=True,
            capture_output=True,
            env=stand.environment | {"PATH": "/usr/bin:/bin"},
            text=True,
        )
        sizes[way] = json.loads(run.stdout.splitlines()[-1])
    figure = sizes["drain"]["peak_kib"] / sizes["bare"]["peak_kib"]
    return Row(
        "11",
        "Memory with 1,000 in flight ÷ the bare loop's",
        stand.kind,
        figure,
        "×",
        "≤ 1.5",
        figure <= 1.5,
        [figure],
        {"owed": owed, **{f"{way}_mib": size["peak_kib"] / 1024 for way, size in sizes.items()}},
    )


def _peak(way: str) -> None:
    """The peak memory of this process after one way of sending what is owed."""
    from portal import create_app

    app = create_app()
    with app.app_context():
        if way == "bare":
            baselines.bare_libcurl(baselines.composed(), 1_000)
        else:
            for lane in range(app.config["PORTAL"].lanes):
                drain.drain(lane, paces=PACES)
    # Not getrusage: its peak is the parent's until exec.
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({"peak_kib": int(peak.split()[1])}))


if __name__ == "__main__":
    _peak(sys.argv[1])
