"""A job's end is written down in one go, whatever somebody writes meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from portal import jobs, processes, queues
from portal.journal.seldom import Seldom
from portal.run import job_ends
from portal.run.job_ends import DONE_SECONDS, FAILED_SECONDS
from portal.run.worker import PortalWorker

pytestmark = pytest.mark.engine

ID = "somebodys"
LASTS_SECONDS = 20.0


@pytest.fixture
def redis(valkey: str) -> Iterator[Redis]:
    """What somebody else has of the portal's Redis."""
    with Redis.from_url(valkey) as connection:
        yield connection


@pytest.fixture
def queue(app: Flask, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """The queue of maintenance, for whoever can write into Redis."""
    monkeypatch.setattr(PortalWorker, "_install_signal_handlers", lambda _: None)
    name = queues.name_of(queues.MAINTENANCE)
    return Queue(name, connection=redis, serializer=JSONSerializer)


@pytest.fixture
def busy_dependents(valkey: str, queue: Queue) -> Iterator[None]:
    """Thousands of names wait for a job, and others come and go every few milliseconds."""
    ended = threading.Event()
    key = f"rq:job:{ID}:dependents"

    def write() -> None:
        with Redis.from_url(valkey) as connection:
            end = time.monotonic() + LASTS_SECONDS
            while time.monotonic() < end and not ended.wait(0.003):
                connection.pipeline(transaction=False).sadd(key, "x").srem(key, "x").execute()

    queue.connection.sadd(key, *(f"no-such-job-{number}" for number in range(4_000)))
    thread = threading.Thread(target=write)
    thread.start()
    yield
    ended.set()
    thread.join()


def work(connection: Redis | None = None) -> None:
    PortalWorker(queues.MAINTENANCE, connection or queues.blocking_client()).work(burst=True)


@pytest.mark.parametrize("fails", [False, True])
def test_who_writes_among_the_dependents_of_a_job_does_not_hold_its_worker(
    queue: Queue, busy_dependents: None, monkeypatch: pytest.MonkeyPatch, fails: bool
):
    done: list[str] = []

    def measure() -> None:
        done.append("measure")
        if fails:
            raise ValueError("a defect")

    monkeypatch.setattr(jobs, "measure", measure)
    monkeypatch.setattr(jobs, "notify", lambda: done.append("notify"))
    queue.enqueue(queues.MEASURE, job_id=ID, result_ttl=0)
    queue.enqueue(queues.NOTIFY, result_ttl=0)
    started = time.monotonic()
    work()
    assert done == ["measure", "notify"]
    assert time.monotonic() - started < LASTS_SECONDS / 2


@pytest.mark.parametrize(
    ("fails", "result_ttl", "status", "seconds"),
    [
        (False, 0, None, 0),
        (False, None, "finished", DONE_SECONDS),
        (True, 0, "failed", FAILED_SECONDS),
    ],
)
def test_what_has_ended_is_forgotten_and_what_failed_after_an_hour(
    queue: Queue,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,
    result_ttl: int | None,
    status: str | None,
    seconds: int,
):
    monkeypatch.setattr(jobs, "measure", lambda: 1 // (0 if fails else 1))
    job = queue.enqueue(queues.MEASURE, job_id=ID, result_ttl=result_ttl)
    # Somebody's: RQ would ask for each of them.
    redis.zadd(f"rq:executions:{ID}", {f"no-such-{number}": 2**40 for number in range(100)})
    work()
    assert Job.exists(ID, redis) == (status is not None)
    if status:
        assert job.get_status() == status
        assert 0 < redis.ttl(job.key) <= seconds
    assert queue.failed_job_registry.get_job_ids() == ([ID] if fails else [])
    left = {key for key in redis.scan_iter("rq:*") if ID.encode() in key or b"execution" in key}
    assert left == ({job.key.encode()} if status else set())
    assert not redis.zcard(queue.started_job_registry.key)


def test_a_maintenance_worker_that_hangs_shows_no_life_for_longer_than_its_job_may_take(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
):
    seen: list[tuple[bool, float]] = []

    def look() -> None:
        seen.append((processes.this.stepped_at is not None, processes.this.step_seconds))

    monkeypatch.setattr(processes.this, "stepped_at", None)
    monkeypatch.setattr(jobs, "measure", look)
    queue.enqueue(queues.MEASURE, result_ttl=0)
    work()
    look()
    assert seen == [(True, Queue.DEFAULT_TIMEOUT), (True, 0)]


def test_the_log_says_when_redis_takes_long_to_note_an_end(
    queue: Queue, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(job_ends, "LONG_SECONDS", 0.3)
    monkeypatch.setattr(job_ends, "_seldom", Seldom(logging.getLogger("portal"), 60))
    monkeypatch.setattr(jobs, "measure", lambda: redis.client_pause(600) and None)
    queue.enqueue(queues.MEASURE, result_ttl=0)
    work()
    assert "to note that a job has ended" in caplog.text
