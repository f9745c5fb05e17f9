"""Whoever can write into Redis has no worker run anything but the portal's own jobs."""

from __future__ import annotations

import json
import logging
import pickle
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from redis import Redis
from rq import Callback, Queue, Repeat
from rq.job import Job
from rq.serializers import JSONSerializer

from portal import jobs, queues
from portal.journal.seldom import Seldom
from portal.run import known_jobs
from portal.run.known_jobs import KnownJob
from portal.run.worker import PortalWorker
from portal.upkeep import retention

pytestmark = pytest.mark.engine

Start = Callable[..., Any]
Wait = Callable[..., None]


class Opened:
    """What a pickle can do when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def maintenance(app: Flask, valkey: str) -> Queue:
    """The queue of maintenance, for whoever can write into Redis."""
    return Queue(
        queues.name_of(queues.MAINTENANCE),
        connection=Redis.from_url(valkey),
        serializer=JSONSerializer,
    )


def hostile(queue: Queue, trace: Path) -> Iterator[Job]:
    """Jobs of every kind that would leave a trace, and some that could end a worker."""
    touch = f"touch {trace}"
    yield queue.enqueue("os.system", touch)
    yield queue.enqueue("subprocess.getoutput", touch)
    yield queue.enqueue("portal.jobs.draining.subprocess.getoutput", touch)
    yield queue.enqueue("portal.jobs.sweep", on_success=Callback("os.system"))
    yield queue.enqueue("portal.jobs.drain", touch, on_failure=Callback("os.system"))
    yield queue.enqueue("portal.jobs.sweep", repeat=Repeat(times=3))
    yield queue.enqueue("portal.jobs.sweep", kwargs={"x": 1})
    yield queue.enqueue("portal.jobs.sweep", 1)
    yield queue.enqueue("portal.jobs.recover", "rec_x")
    yield queue.enqueue("portal.jobs.recover", "rec_x", 2**63)
    yield queue.enqueue("portal.jobs.purge", 10**30)
    yield queue.enqueue("portal.jobs.purge", -(10**30))
    for arguments in (["0"], [0.5], [True], [None], [[0]], [{"lane": 0}]):
        yield queue.enqueue("portal.jobs.drain", *arguments)
    for arguments in (["\ud800", 1], ["\0", 1], ["é", 1], ["x" * 60_000, 1], ["rec_x", -1]):
        yield queue.enqueue("portal.jobs.recover", *arguments)
    # Redis would refuse what RQ asks it for, which ends a worker's round.
    yield queue.enqueue("portal.jobs.sweep", job_timeout=10**20)
    yield queue.enqueue("portal.jobs.sweep", result_ttl=10**20)
    yield queue.enqueue("portal.jobs.sweep", failure_ttl=-(10**20))
    redis = queue.connection
    for number, fields in enumerate(
        (
            {"data": pickle.dumps(Opened(trace))},
            {"data": zlib.compress(json.dumps(["os.system", None, [touch], {}]).encode())},
            {"data": zlib.compress(json.dumps(["sweep", "portal.jobs", [], {}]).encode())},
            {"data": b"[]"},
            {"data": b"{"},
            {"data": b"\xff\xfe"},
            {},
            {"created_at": "never"},
            {"data": b'["portal.jobs.sweep",null,[],{}]', "created_at": "never"},
            {"data": b'["portal.jobs.sweep",null,[],{}]', "ttl": "x", "status": "no status"},
            {"data": b'["portal.jobs.sweep",null,[],{}]', "ttl": 10**20, "status": "queued"},
            {
                "data": b'["portal.jobs.sweep",null,[],{}]',
                "meta": pickle.dumps(Opened(trace)),
                "webhooks": b'[{"url":"http://127.0.0.1:9/"}]',
            },
        )
    ):
        if fields:
            redis.hset(f"rq:job:odd-{number}", mapping=fields)
        redis.rpush(queue.key, f"odd-{number}")
    for name in (b"\xff\xfe", b"", b"a b:c/../d", b"x" * 100_000):
        redis.rpush(queue.key, name)


def test_all_else_is_dropped_and_said_and_the_portals_own_are_done(
    maintenance: Queue, processes: Start, wait_for: Wait, tmp_path: Path
):
    trace = tmp_path / "trace"
    planted = list(hostile(maintenance, trace))
    own = maintenance.enqueue(queues.PURGE, job_timeout=60)
    worker = processes("worker.py", "--part", "maintenance")
    wait_for(lambda: retention.latest() is not None and retention.latest().finished_at)
    wait_for(lambda: not maintenance.get_job_ids())
    assert worker.poll() is None
    assert not trace.exists()
    wait_for(lambda: own.get_status() == "finished")
    assert not any(Job.exists(job.id, maintenance.connection) for job in planted)


def test_the_log_names_what_was_dropped(
    maintenance: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    # Another test may have had the line of this minute.
    log = logging.getLogger("portal.run.known_jobs")
    monkeypatch.setattr(known_jobs, "_seldom", Seldom(log, 60))
    job = maintenance.enqueue("os.system", "true")
    with pytest.raises(Exception, match=r"it would call os\.system"):
        KnownJob.fetch(job.id, maintenance.connection)
    assert "it would call os.system" in caplog.text


@pytest.mark.parametrize("path", queues.JOB_PATHS)
def test_each_of_the_portals_jobs_is_known(maintenance: Queue, path: str):
    arguments = {queues.DRAIN: [3], queues.RECOVER: ["rec_1", 2]}.get(path, [])
    job = maintenance.enqueue(path, *arguments)
    assert KnownJob.fetch(job.id, maintenance.connection).args == arguments


@pytest.mark.parametrize("path", queues.JOB_PATHS)
def test_a_job_has_the_portals_times_whatever_redis_says(maintenance: Queue, path: str):
    arguments = {queues.DRAIN: [3], queues.RECOVER: ["rec_1", 2]}.get(path, [])
    job = maintenance.enqueue(
        path, *arguments, job_timeout=1, ttl=50_000, result_ttl=50_000, failure_ttl=1
    )
    known = KnownJob.fetch(job.id, maintenance.connection)
    assert known.timeout == queues.TIMEOUTS[path]
    assert (known.ttl, known.result_ttl, known.failure_ttl) == (None, None, None)


def test_a_drain_is_not_cut_off_by_a_time_that_somebody_gave_it(
    app: Flask, valkey: str, monkeypatch: pytest.MonkeyPatch
):
    drained: list[int] = []

    def drain(lane: int) -> None:
        time.sleep(1.5)
        drained.append(lane)

    monkeypatch.setattr(jobs, "drain", drain)
    monkeypatch.setattr(PortalWorker, "_install_signal_handlers", lambda _: None)
    deliveries = Queue(
        queues.name_of(queues.DELIVERIES),
        connection=Redis.from_url(valkey),
        serializer=JSONSerializer,
    )
    deliveries.enqueue(queues.DRAIN, 1, job_timeout=1)
    PortalWorker(queues.DELIVERIES, queues.blocking_client()).work(burst=True)
    assert drained == [1]
