"""Whatever somebody writes into Redis: what is due is delivered, and no process ends of it."""

from __future__ import annotations

import logging
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from portal import jobs, queues, signs, vault
from portal.clock import SECOND, now
from portal.db.session import db
from portal.delivery.wakes import MOST_CALLS, Wakes
from portal.events import ingest
from portal.journal.seldom import Seldom
from portal.models import Lane, Merchant
from portal.run import known_jobs, overdue
from portal.run.known_jobs import KnownJob
from portal.run.worker import PortalWorker
from portal.strange_keys import MOST
from portal.upkeep import redis_now, vitals
from tests.factories import make_webhook
from tests.receiver import Receiver

pytestmark = pytest.mark.engine

ORDER = {"type": "order.created", "object_id": "1000", "data": {"total": "99.50"}}
Start = Callable[..., subprocess.Popen[bytes]]
Wait = Callable[..., None]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "2", "SWEEP_SECONDS": "1"}


@pytest.fixture
def redis(valkey: str) -> Iterator[Redis]:
    """What somebody else has of the portal's Redis."""
    with Redis.from_url(valkey) as connection:
        yield connection


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told of what is due."""
    monkeypatch.setattr(queues, "wake", lambda _lanes: None)


def somebodys(redis: Redis, queue: str) -> Queue:
    return Queue(queues.name_of(queue), connection=redis, serializer=JSONSerializer)


def work(queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in this process what lies in a queue."""
    monkeypatch.setattr(PortalWorker, "_install_signal_handlers", lambda _: None)
    PortalWorker(queue, queues.blocking_client()).work(burst=True)


def test_no_key_and_no_command_keeps_a_worker_from_its_work(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    redis: Redis,
):
    make_webhook(merchant, receiver.url())
    redis.set("rq:suspended", 1)
    worker = processes("worker.py", "--part", "deliver")
    ingest.ingest_events(merchant.id, [ORDER], batch=False)
    wait_for(lambda: len(receiver.ledger) == 1, 30)
    wait_for(lambda: redis.scard("rq:workers") == 1, 30)
    (name,) = redis.smembers("rq:workers")
    channel = name.decode().replace(":worker:", ":pubsub:")
    assert [redis.publish(channel, said) for said in ('{"command": "shutdown"}', b"\xff")] == [0, 0]
    ingest.ingest_events(merchant.id, [ORDER], batch=False)
    wait_for(lambda: len(receiver.ledger) == 2, 30)
    assert worker.poll() is None


def test_a_worker_delivers_what_is_due_though_no_sweep_is_done(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    redis: Redis,
    asleep: None,
):
    make_webhook(merchant, receiver.url())
    worker = processes("worker.py", "--part", "deliver")
    wait_for(lambda: redis.scard("rq:workers") == 1)
    ingest.ingest_events(merchant.id, [ORDER], batch=False)
    wait_for(lambda: len(receiver.ledger) == 1, 30)
    # It has a life to show, and ends in order, as in any drain.
    assert vitals.workers_state() == "ok"
    worker.terminate()
    assert worker.wait(30) == 0


def test_cron_goes_on_where_its_list_and_its_own_key_are_of_other_types(
    app: Flask, processes: Start, wait_for: Wait, redis: Redis
):
    redis.set("rq:cron_schedulers", "x")
    processes("worker.py", "--part", "cron")
    queue = somebodys(redis, queues.MAINTENANCE)
    wait_for(lambda: redis.llen(queue.key) > 0, 30)
    (name,) = redis.keys("rq:cron_scheduler:*")
    redis.set(name, "x")
    redis.delete("rq:cron_schedulers")
    redis.set("rq:cron_schedulers", "x")
    wait_for(lambda: redis.type(name) == b"hash", 30)
    redis.delete(queue.key)
    wait_for(lambda: redis.llen(queue.key) > 0, 30)


def test_what_is_longer_than_the_portals_can_be_is_taken_away_unread(
    app: Flask, processes: Start, wait_for: Wait, redis: Redis
):
    both = [somebodys(redis, queue) for queue in (queues.DELIVERIES, queues.MAINTENANCE)]
    names = [f"{number:032x}" for number in range(MOST + 1)]
    for queue in both:
        redis.rpush(queue.key, *names)
        redis.rpush(queue.intermediate_queue_key, *names)
        redis.zadd(queue.started_job_registry.key, dict.fromkeys(names, 9e12))
        redis.sadd(f"rq:workers:{queue.name}", *names)
    processes("worker.py", "--part", "maintenance")

    def is_gone() -> bool:
        return all(
            redis.llen(queue.key)
            + redis.llen(queue.intermediate_queue_key)
            + redis.zcard(queue.started_job_registry.key)
            + redis.scard(f"rq:workers:{queue.name}")
            < 10
            for queue in both
        )

    wait_for(is_gone, 30)


def test_an_id_that_stands_in_a_queue_many_times_is_done_once(
    app: Flask, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    monkeypatch.setattr(jobs, "measure", lambda: done.append("measure"))
    queue = somebodys(redis, queues.MAINTENANCE)
    job = queue.enqueue(queues.MEASURE, result_ttl=-1)
    redis.rpush(queue.key, *[job.id] * 50, *["nothing"] * 50)
    work(queues.MAINTENANCE, monkeypatch)
    assert redis.llen(queue.key) == redis.llen(queue.intermediate_queue_key) == 0
    assert done == ["measure"]


@pytest.mark.parametrize(
    ("where", "path"), [(queues.MAINTENANCE, queues.DRAIN), (queues.DELIVERIES, queues.MEASURE)]
)
def test_a_job_is_done_in_its_own_queue_alone(
    where: str, path: str, app: Flask, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []

    def drain(lane: int) -> None:
        done.append(f"drain {lane}")

    monkeypatch.setattr(jobs, "measure", lambda: done.append("measure"))
    monkeypatch.setattr(jobs, "drain", drain)
    job = somebodys(redis, where).enqueue(path, *([0] if path == queues.DRAIN else []))
    work(where, monkeypatch)
    assert not Job.exists(job.id, redis)
    assert not done
    assert db.session.scalar(sa.select(sa.func.max(Lane.token))) == 0


@pytest.mark.parametrize("field", ["data", "exc_info"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_job_that_is_small_packed_and_large_unpacked_takes_no_memory(
    field: str, times: int, app: Flask, redis: Redis
):
    queue = queues.queue_of(queues.DELIVERIES)
    queues.enqueue_drain(0)
    packed = b"[" + bytes(200_000_000)
    for _ in range(times):
        packed = zlib.compress(packed)
    job_id = queues.drain_job_id(0)
    redis.hset(Job.key_for(job_id), field, packed)
    redis.lrem(queue.key, 0, job_id)
    tracemalloc.start()
    try:
        if field == "data":
            with pytest.raises(NoSuchJobError):
                KnownJob.fetch(job_id, redis)
            redis.hset(Job.key_for(job_id), field, packed)
        else:
            assert KnownJob.fetch(job_id, redis).args == [0]
        queues.replace_drain(0)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert KnownJob.fetch(job_id, redis).args == [0]
    assert redis.llen(queue.key) == 1


def test_what_workers_have_left_is_taken_away_and_read_by_nobody(
    app: Flask, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    queue = somebodys(redis, queues.DELIVERIES)
    registry = StartedJobRegistry(queue=queue)
    queues.enqueue_drain(0)
    redis.delete(queue.key)
    left = {f"{queues.drain_job_id(0)}:{'0' * 32}": 1.0, "a:b:c": 0.0, b"\xff\xfe": 2.0, "": -5.0}
    redis.zadd(registry.key, left)
    redis.zadd(registry.key, {"another:1": 9e12})
    redis.rpush(queue.intermediate_queue_key, queues.drain_job_id(0), b"\xff")
    redis.sadd(f"rq:workers:{queue.name}", "rq:worker:gone", b"\xff")
    redis.set("rq:groups", "x")
    work(queues.DELIVERIES, monkeypatch)
    assert redis.zrange(registry.key, 0, -1) == [b"another:1"]
    assert not redis.exists(queue.intermediate_queue_key, f"rq:workers:{queue.name}")
    assert not Job.exists(queues.drain_job_id(0), redis)


def test_of_any_number_of_names_only_some_are_asked_for_their_workers(
    app: Flask, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    work(queues.DELIVERIES, monkeypatch)
    signs.show()
    key = f"rq:workers:{queues.name_of(queues.DELIVERIES)}"
    redis.sadd(key, *(f"rq:worker:{number}" for number in range(3 * redis_now.WORKERS_ASKED)))
    redis.config_resetstat()
    # None of them hides the one that lives.
    assert vitals.workers_state() == "ok"
    assert redis_now.workers_now() == []
    assert redis.info("commandstats")["cmdstat_hgetall"]["calls"] == redis_now.WORKERS_SHOWN


def test_who_writes_into_redis_neither_makes_a_sign_of_life_nor_makes_one_last(
    app: Flask, redis: Redis
):
    name = queues.key("delivers")
    for said in (str(now()), "x" * 10_000_000, b"\xff", vault.encrypt("never"), ""):
        redis.set(name, said)
        assert vitals.workers_state() == "none"
    redis.delete(name)
    redis.rpush(name, "x")
    assert vitals.workers_state() == "none"
    signs.show()
    assert vitals.workers_state() == "ok"
    said = redis.get(name)
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=2 * signs.SILENT / SECOND)):
        redis.set(name, said)
        assert vitals.workers_state() == "none"


def test_any_number_of_jobs_that_are_done_again_and_again_keep_no_other_waiting(
    app: Flask, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    monkeypatch.setattr(jobs, "measure", lambda: done.append("measure"))
    monkeypatch.setattr(jobs, "notify", lambda: done.append("notify"))
    # However slow the machine is.
    monkeypatch.setattr(known_jobs, "AGAIN_SECONDS", 600.0)
    monkeypatch.setattr(known_jobs, "FEW", 0)
    queue = somebodys(redis, queues.MAINTENANCE)
    for _ in range(500):
        queue.enqueue(queues.MEASURE, result_ttl=0)
    queue.enqueue(queues.NOTIFY, result_ttl=0)
    work(queues.MAINTENANCE, monkeypatch)
    assert done == ["measure", "notify"]
    assert not redis.keys("rq:job:*")


@pytest.mark.parametrize("redis_is_there", [True, False])
def test_maintenance_goes_on_without_cron_and_whatever_lies_before_its_jobs(
    app: Flask,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    redis: Redis,
    redis_is_there: bool,
):
    """Sweeps, measuring, counting, mail and certificates, in the worker's own loop."""
    done: list[str] = []
    worker = PortalWorker(queues.MAINTENANCE, queues.blocking_client())

    def do(name: str) -> Callable[[], None]:
        def call() -> None:
            done.append(name)
            if len(set(done)) == 5:
                worker.request_stop(15, None)
            if name == "notify":
                raise ValueError("a defect keeps no other from being done")

        call.__module__, call.__qualname__ = "portal.jobs", name
        return call

    names = ("sweep", "measure", "notify", "summarize", "look_at_certificates")
    for name in names:
        monkeypatch.setattr(jobs, name, do(name))
    worker._upkeep = overdue.Upkeep(app.config["PORTAL"])
    monkeypatch.setattr(overdue, "LATE", -1)
    monkeypatch.setattr(PortalWorker, "_install_signal_handlers", lambda _: None)
    if redis_is_there:
        redis.rpush(f"rq:queue:{queues.name_of(queues.MAINTENANCE)}", *["nothing"] * 9_000)
    else:
        monkeypatch.setattr(queues, "answers", lambda: False)
    worker.serve()
    assert done[:5] == list(names)
    if redis_is_there:
        assert redis.llen(f"rq:queue:{queues.name_of(queues.MAINTENANCE)}") > 8_000


class Woken:
    """A transport whose socket of wake-up calls always has something."""

    woken = True

    def watch(self, _fd: int) -> None: ...
    def unwatch(self, _fd: int) -> None: ...


@pytest.mark.parametrize("channel", [lambda: queues.wake_channel(0), queues.idle_channel])
def test_a_drain_that_is_called_without_end_hears_no_more_and_looks_by_itself(
    channel: Callable[[], str], app: Flask, redis: Redis, wait_for: Wait
):
    wakes = Wakes(Woken())
    wakes.listen(0)
    wait_for(lambda: redis.pubsub_numsub(queues.wake_channel(0))[0][1] == 1)
    pipeline = redis.pipeline(transaction=False)
    for _ in range(3 * MOST_CALLS):
        pipeline.publish(channel(), "work")
    pipeline.execute()
    wait_for(lambda: wakes.called() and redis.pubsub_numsub(channel())[0][1] == 0)
    wakes.close()


def test_what_ends_a_workers_rounds_has_one_traceback_a_minute(
    app: Flask, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    log = logging.getLogger("portal.run.worker")
    monkeypatch.setattr("portal.run.worker._defects", Seldom(log, 60))
    monkeypatch.setattr(PortalWorker, "_look_about", lambda _: None)
    queue = somebodys(redis, queues.MAINTENANCE)
    for _ in range(5):
        monkeypatch.setattr(
            "portal.run.worker.tidy", lambda _: redis.set(queue.started_job_registry.key, "x")
        )
        redis.delete(queue.key)
        queue.enqueue(queues.MEASURE)
        work(queues.MAINTENANCE, monkeypatch)
    assert len([record for record in caplog.records if record.exc_info]) == 1
