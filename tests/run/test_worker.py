"""Real workers, real signals: nothing is lost, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from redis import Redis
from rq import cron_scheduler_registry

from portal import jobs, queues
from portal import processes as portal_processes
from portal.clock import HOUR, now
from portal.db.session import db
from portal.events import ingest
from portal.models import Attempt, Delivery, EventCount, Lane, Merchant
from portal.run.worker import PortalWorker
from tests.conftest import on_both_databases
from tests.factories import make_event, make_webhook
from tests.receiver import Receiver

pytestmark = [pytest.mark.engine, pytest.mark.whole]

ORDER = {"type": "order.created", "object_id": "1000", "data": {"total": "99.50"}}
Start = Callable[..., subprocess.Popen[bytes]]
Wait = Callable[..., None]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "2", "SWEEP_SECONDS": "1", "RETRY_SCHEDULE": "0 2 2 2"}


def send(merchant: Merchant, count: int = 1) -> list[str]:
    answers = ingest.ingest_events(merchant.id, [ORDER] * count, batch=True)
    return [answer.id for answer in answers]


def states() -> dict[str, int]:
    db.session.rollback()
    return dict(
        db.session.execute(
            sa.select(Delivery.state, sa.func.count()).group_by(Delivery.state)
        ).all()  # type: ignore[arg-type]
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


@on_both_databases
def test_an_event_is_delivered_within_a_second(
    merchant: Merchant, receiver: Receiver, processes: Start, wait_for: Wait
):
    make_webhook(merchant, receiver.url())
    processes("worker.py", "--part", "deliver")
    send(merchant)
    wait_for(lambda: len(receiver.ledger) == 1)
    for count in range(2, 5):
        sent_at = time.time()
        send(merchant)
        wait_for(lambda count=count: len(receiver.ledger) == count)
        assert receiver.ledger[-1].at - sent_at < 1
    wait_for(lambda: states() == {"succeeded": 4})


@on_both_databases
def test_killed_workers_and_a_wiped_redis_lose_nothing(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    valkey: str,
):
    make_webhook(merchant, receiver.url())
    receiver.will_answer([500, 500, 200])
    workers = [processes("worker.py", "--part", "deliver") for _ in range(2)]
    processes("worker.py", "--part", "maintenance")
    processes("worker.py", "--part", "cron")
    (event_id,) = send(merchant)
    wait_for(lambda: len(receiver.ledger) == 1)
    for worker in workers:
        kill(worker)
    Redis.from_url(valkey).flushall()
    processes("worker.py", "--part", "deliver")
    wait_for(lambda: states() == {"succeeded": 1}, seconds=60)
    assert set(receiver.ids()) == {event_id}
    assert len({request.body for request in receiver.ledger}) == 1
    # Three attempts, or one more where the kill came between the answer and its record.
    assert 3 <= len(receiver.ledger) <= 4
    assert [request.at for request in receiver.ledger] == sorted(
        request.at for request in receiver.ledger
    )


def test_a_worker_killed_in_mid_flight_is_followed_by_one_that_sends_again(
    app: Flask, merchant: Merchant, receiver: Receiver, processes: Start, wait_for: Wait
):
    make_webhook(merchant, receiver.url())
    receiver.delay = 1.5
    worker = processes("worker.py", "--part", "deliver")
    ids = send(merchant, 30)
    wait_for(lambda: len(receiver.ledger) >= 5)
    kill(worker)
    receiver.delay = 0
    processes("worker.py", "--part", "deliver")
    processes("worker.py", "--part", "maintenance")
    processes("worker.py", "--part", "cron")
    wait_for(lambda: states() == {"succeeded": 30}, seconds=60)
    assert set(receiver.ids()) == set(ids)


def test_sigterm_finishes_what_is_in_flight_and_gives_the_lane_back(
    app: Flask, merchant: Merchant, receiver: Receiver, processes: Start, wait_for: Wait
):
    make_webhook(merchant, receiver.url())
    receiver.delay = 1.0
    worker = processes("worker.py", "--part", "deliver")
    send(merchant, 50)
    wait_for(lambda: len(receiver.ledger) >= 5)
    in_flight = len(receiver.ledger)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    db.session.rollback()
    recorded = db.session.scalar(sa.select(sa.func.count()).select_from(Attempt))
    assert recorded == len(receiver.ledger) >= in_flight
    assert not db.session.scalars(sa.select(Lane.owner).where(Lane.owner.is_not(None))).all()
    assert states()["pending"] == 50 - len(receiver.ledger)


def test_a_pickle_planted_in_redis_never_runs(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    valkey: str,
    tmp_path,
):
    from rq import Queue

    victim = tmp_path / "touched"
    name = queues.name_of(queues.DELIVERIES)
    Queue(name, connection=Redis.from_url(valkey)).enqueue(os.mkdir, str(victim))
    make_webhook(merchant, receiver.url())
    processes("worker.py", "--part", "deliver")
    send(merchant)
    wait_for(lambda: states() == {"succeeded": 1})
    assert not victim.exists()


JUNK: dict[str, Callable[[Redis, str], object]] = {
    "text": lambda redis, name: redis.set(name, "x"),
    "bytes": lambda redis, name: redis.hset(
        name,
        mapping={
            "created_at": "2026-01-01T00:00:00.000000Z",
            "origin": b"\xff",
            "status": b"\xff\xfe",
        },
    ),
    "no time": lambda redis, name: redis.hset(name, mapping={"created_at": "never", "data": "x"}),
    "no number": lambda redis, name: redis.hset(
        name,
        mapping={
            "created_at": "2026-01-01T00:00:00.000000Z",
            "data": "{}",
            "status": "started",
            "timeout": "soon",
        },
    ),
    "a list": lambda redis, name: redis.rpush(name, "x"),
}


@pytest.mark.parametrize("kind", JUNK)
def test_what_somebody_wrote_in_place_of_a_lanes_job_delays_it_by_one_sweep(
    kind: str,
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    valkey: str,
):
    make_webhook(merchant, receiver.url())
    redis = Redis.from_url(valkey)
    for lane in range(2):
        JUNK[kind](redis, f"rq:job:{queues.drain_job_id(lane)}")
    redis.set(queues.key("idle-worker"), b"\xff")
    send(merchant)
    # As the worker finds it at its start; and once it waits for a job.
    worker = processes("worker.py", "--part", "deliver")
    wait_for(lambda: states() == {"succeeded": 1}, 20)
    wait_for(lambda: redis.pubsub_numsub(*map(queues.wake_channel, range(2)))[0][1] == 0, 30)
    for lane in range(2):
        redis.delete(f"rq:job:{queues.drain_job_id(lane)}")
        JUNK[kind](redis, f"rq:job:{queues.drain_job_id(lane)}")
    redis.rpush(queues.queue_of(queues.MAINTENANCE).key, b"\xff\xfe")
    send(merchant)
    jobs.sweep()
    wait_for(lambda: states() == {"succeeded": 2}, 20)
    assert worker.poll() is None


def test_keys_of_other_types_in_place_of_queues_and_lists_are_taken_away(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    valkey: str,
):
    make_webhook(merchant, receiver.url())
    redis = Redis.from_url(valkey)
    queue = queues.queue_of(queues.MAINTENANCE)
    names = [
        queue.key,
        "rq:workers",
        "rq:queues",
        f"rq:workers:{queue.name}",
        queue.started_job_registry.key,
        queue.failed_job_registry.key,
    ]
    for name in names:
        redis.set(name, "x")
    processes("worker.py", "--part", "maintenance")
    wait_for(lambda: all(redis.type(name) != b"string" for name in names), 20)
    for part in ("cron", "deliver"):
        processes("worker.py", "--part", part)
    send(merchant)
    redis.flushall()
    for name in names:
        redis.set(name, "x")
    make_event(merchant, received_at=now() - HOUR)

    def counted() -> bool:
        db.session.rollback()
        return db.session.scalar(sa.select(sa.func.count()).select_from(EventCount)) > 0

    wait_for(counted)
    wait_for(lambda: states() == {"succeeded": 1}, 20)


def test_the_sweep_finds_work_whose_wake_up_call_was_lost(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    valkey: str,
):
    make_webhook(merchant, receiver.url())
    send(merchant)
    Redis.from_url(valkey).flushall()
    processes("worker.py", "--part", "deliver")
    assert jobs.sweep() == 1
    wait_for(lambda: states() == {"succeeded": 1})


def test_cron_has_the_logs_counted(
    app: Flask, merchant: Merchant, processes: Start, wait_for: Wait
):
    make_event(merchant, received_at=now() - HOUR)
    processes("worker.py", "--part", "maintenance")
    processes("worker.py", "--part", "cron")

    def counted() -> bool:
        db.session.rollback()
        return db.session.scalar(sa.select(EventCount.events)) == 1

    wait_for(counted)


def test_cron_ends_in_order_after_redis_was_wiped(
    app: Flask, processes: Start, wait_for: Wait, valkey: str
):
    redis = Redis.from_url(valkey)
    cron = processes("worker.py", "--part", "cron")
    wait_for(lambda: cron_scheduler_registry.get_keys(redis))
    redis.flushall()
    cron.send_signal(signal.SIGTERM)
    assert cron.wait(10) == 0


def test_a_job_that_was_wiped_while_it_ran_is_no_failure(
    app: Flask, valkey: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def wiped(*_: object, **_options: object) -> int:
        return int(Redis.from_url(valkey).flushall())

    monkeypatch.setattr("portal.delivery.drain.drain", wiped)
    monkeypatch.setattr(PortalWorker, "_install_signal_handlers", lambda _: None)
    queues.replace_drain(0)
    PortalWorker(queues.DELIVERIES, queues.blocking_client()).work(burst=True)
    assert not [line for line in caplog.messages if "failed" in line]


@pytest.mark.parametrize(
    "started",
    [
        "import wsgi; say()",
        "from portal.run import worker; worker.PortalWorker.serve = lambda self: say(); "
        "worker.run_worker('deliveries')",
    ],
    ids=["web", "worker"],
)
def test_what_is_loaded_at_the_start_is_not_walked_through_again(
    environment: dict[str, str], app: Flask, started: str
):
    # Each time that the collector does so, everything waits for some 70 ms.
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import gc\ndef say():\n"
            f"  print(gc.get_freeze_count(), gc.get_threshold()[0])\n{started}",
        ],
        cwd=portal_processes.ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    frozen, new = map(int, ended.stdout.split())
    assert frozen > 50_000
    assert new >= 10_000, "and what is new is let go of by itself"
