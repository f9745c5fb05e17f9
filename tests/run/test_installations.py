"""Two portals on one Redis: neither hears, takes or counts what is the other's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from portal import create_app, processes, queues, runtime, signs
from portal.config import load_config
from portal.db.session import db, reading, writing
from portal.delivery import lanes
from portal.events import ingest
from portal.installation import KnownName
from portal.models import Installation, Lane, Merchant
from tests.conftest import on_both_databases
from tests.factories import make_webhook
from tests.receiver import Receiver

pytestmark = [pytest.mark.engine, pytest.mark.whole]

Start = Callable[..., subprocess.Popen[bytes]]
Wait = Callable[..., None]
ORDER = {"type": "order.created", "object_id": "1000"}


@pytest.fixture
def settings() -> dict[str, str]:
    # No sweep mends what went to the wrong portal.
    return {"LANES": "1", "SWEEP_SECONDS": "300"}


@pytest.fixture(params=["same", "another"])
def other(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    app: Flask,
    tmp_path: Path,
    empty_sqlite: Path,
) -> Iterator[dict[str, str]]:
    """The settings of another portal on the same server, in the same or in another database of
    it, whose worker delivers."""
    database = tmp_path / "other.db"
    database.write_bytes(empty_sqlite.read_bytes())
    number = "?db=0" if request.param == "same" else "?db=3"
    others = environment | {
        "PORTAL_DATA_DIR": str(tmp_path / "other"),
        "PORTAL_DATABASE_URL": f"sqlite:///{database}",
        "PORTAL_REDIS_URL": environment["PORTAL_REDIS_URL"] + number,
        "PORTAL_SECRET_KEY": "another secret key for tests that is long enough",
    }
    worker = subprocess.Popen(
        [sys.executable, "worker.py", "--part", "deliver", "--processes", "1"],
        cwd=processes.ROOT,
        env=os.environ | others,
    )
    there = create_app(load_config(others))
    with there.app_context():
        end = time.monotonic() + 30
        while not signs.is_delivering() and time.monotonic() < end:
            time.sleep(0.05)
        db.session.remove()
        db.engine.dispose()
    yield others
    worker.kill()
    worker.wait(10)


@on_both_databases
def test_each_event_is_delivered_at_once_by_its_own_workers(
    merchant: Merchant, receiver: Receiver, processes: Start, wait_for: Wait, other: dict[str, str]
):
    make_webhook(merchant, receiver.url())
    # The other's worker alone takes nothing of it.
    ingest.ingest_events(merchant.id, [ORDER], batch=True)
    time.sleep(1)
    assert receiver.ledger == []
    processes("worker.py", "--part", "deliver", "--processes", "1")
    wait_for(lambda: len(receiver.ledger) == 1)
    for count in range(2, 6):
        sent_at = time.time()
        ingest.ingest_events(merchant.id, [ORDER], batch=True)
        wait_for(lambda count=count: len(receiver.ledger) == count)
        assert receiver.ledger[-1].at - sent_at < 1


def test_a_listener_of_another_installation_counts_as_none(app: Flask, valkey: str):
    listener = Redis.from_url(valkey).pubsub()
    listener.subscribe("portal:another:wake:0", "portal:wake:0")
    for _ in range(2):
        assert listener.get_message(timeout=2) is not None
    queues.wake([0])
    assert queues.queue_of(queues.DELIVERIES).get_job_ids() == [queues.drain_job_id(0)]
    queues.enqueue_recovery("rec_1", 3)
    queues.enqueue_purge(4)
    ids = queues.queue_of(queues.MAINTENANCE).get_job_ids()
    assert len(ids) == 2
    assert all(queues.installation() in job_id for job_id in ids)
    assert queues.waits_for_recovery("rec_1", 3)
    assert listener.get_message(timeout=0.2) is None
    listener.close()


def test_jobs_of_an_older_version_stay_where_they_are_and_their_work_is_found(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    valkey: str,
):
    make_webhook(merchant, receiver.url())
    ingest.ingest_events(merchant.id, [ORDER], batch=True)
    redis = Redis.from_url(valkey)
    redis.flushall()
    Job.create(
        queues.DRAIN,
        [0],
        id="drain-0",
        origin="deliveries",
        connection=redis,
        serializer=JSONSerializer,
    ).save()
    redis.lpush("rq:queue:deliveries", "drain-0")
    processes("worker.py", "--part", "deliver", "--processes", "1")
    wait_for(lambda: len(receiver.ledger) == 1)


@on_both_databases
def test_the_name_is_made_once_and_kept(app: Flask, environment: dict[str, str]):
    name = queues.installation()
    runtime.of(app).put(KnownName, KnownName())
    assert queues.installation() == name
    config = load_config(environment)
    with create_app(replace(config, lanes=1)).app_context():
        assert queues.installation() == name
        db.engine.dispose()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_of_two_that_make_the_name_at_once_both_have_the_first_ones(app: Flask):
    named: list[str] = []

    def ask() -> None:
        with app.app_context():
            named.append(queues.installation())
            db.session.remove()

    with db.engine.connect() as connection:
        connection.execute(sa.insert(Installation).values(id=1, name="first"))
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        connection.commit()
    thread.join(10)
    assert named == ["first"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_of_two_that_make_the_lanes_at_once_both_go_on(app: Flask):
    with writing() as session:
        session.execute(sa.delete(Lane))
    done: list[bool] = []

    def prepare() -> None:
        with app.app_context():
            lanes.prepare_lanes()
            done.append(True)
            db.session.remove()

    with db.engine.connect() as connection:
        connection.execute(sa.insert(Lane).values(id=0))
        thread = threading.Thread(target=prepare)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        connection.commit()
    thread.join(10)
    assert done == [True]
    with reading() as session:
        assert session.scalars(sa.select(Lane.id)).all() == [0]


@on_both_databases
def test_what_is_committed_is_answered_also_when_no_queue_can_be_named(
    app: Flask, client: FlaskClient, api_key: str, merchant: Merchant, receiver: Receiver
):
    make_webhook(merchant, receiver.url())
    with writing() as session:
        session.execute(sa.text("ALTER TABLE installation RENAME TO installation_away"))
    try:
        runtime.of(app).put(KnownName, KnownName())
        answer = client.post(
            "/api/v1/events", json=ORDER, headers={"Authorization": f"Bearer {api_key}"}
        )
        assert answer.status_code == 202, answer.text
        queues.enqueue_recovery("r", 1)
        queues.enqueue_purge(1)
        queues.enqueue_next(queues.SUMMARIZE)
    finally:
        with writing() as session:
            session.execute(sa.text("ALTER TABLE installation_away RENAME TO installation"))


def test_limits_on_tries_are_each_portals_own(app: Flask, environment: dict[str, str]):
    config = load_config(environment)
    others = create_app(replace(config, secret_keys=("another key that is long enough too",)))
    prefix = "RATELIMIT_KEY_PREFIX"
    assert app.config[prefix] != others.config[prefix]
    assert app.config[prefix] == create_app(config).config[prefix]
