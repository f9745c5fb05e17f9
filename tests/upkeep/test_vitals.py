"""The portal knows how it is itself, at little cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from portal import queues
from portal.clock import HOUR, now
from portal.database_errors import UNREADABLE
from portal.db.session import db
from portal.models import Merchant
from portal.upkeep import readiness, vitals
from tests import factories
from tests.conftest import on_both_databases


@on_both_databases
def test_what_waits_is_counted_by_why_it_waits(merchant: Merchant) -> None:
    well = factories.make_webhook(merchant)
    held = factories.make_webhook(merchant, held_at=1)
    disabled = factories.make_webhook(merchant, enabled=False)
    event = factories.make_event(merchant)
    factories.make_delivery(event, well)
    factories.make_delivery(event, well, next_attempt_at=now() + HOUR)
    factories.make_delivery(event, well, "succeeded")
    factories.make_delivery(event, held)
    factories.make_delivery(event, disabled)
    assert vitals.backlog() == {"due": 1, "scheduled": 1, "held": 2}


@on_both_databases
def test_the_last_minute_is_counted(merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant)
    factories.make_event(merchant, received_at=now() - HOUR)
    delivery = factories.make_delivery(factories.make_event(merchant), webhook)
    factories.make_attempt(delivery, 200)
    factories.make_attempt(delivery, 500)
    factories.make_attempt(delivery, None, error="connect_timeout")
    factories.make_attempt(delivery, id="req_0195fffffffff7000000000000000000")
    assert vitals.events_last_minute() == 1
    assert vitals.attempts_last_minute() == {"succeeded": 1, "failed": 2}


def test_a_growing_backlog_is_counted_to_its_cap(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "BACKLOG_CAP", 2)
    webhook, event = factories.make_webhook(merchant), factories.make_event(merchant)
    for _ in range(4):
        factories.make_delivery(event, webhook)
    assert vitals.backlog()["due"] == 2


@on_both_databases
def test_everything_is_well(app: Flask) -> None:
    assert (readiness.trouble(), vitals.redis_state()) == (None, "ok")


def test_a_redis_at_its_memory_limit_is_full(app: Flask, valkey: str) -> None:
    server = Redis.from_url(valkey)
    server.config_set("maxmemory", 1_000_000)
    try:
        assert vitals.redis_state() == "full"
    finally:
        server.config_set("maxmemory", 0)


def test_a_redis_that_can_only_be_read_is_said_to_be(app: Flask, valkey: str) -> None:
    server = Redis.from_url(valkey)
    server.replicaof("127.0.0.1", "1")
    try:
        assert vitals.redis_state() == "unavailable"
    finally:
        server.replicaof("NO", "ONE")
    assert vitals.redis_state() == "ok"


@pytest.mark.parametrize(
    ("forbidden", "state"),
    [
        ("-info", "ok"),
        ("-publish", "unavailable"),
        ("-set", "unavailable"),
        ("-eval", "unavailable"),
    ],
)
def test_a_redis_that_forbids_what_the_portal_needs_is_unavailable(
    app: Flask, valkey: str, forbidden: str, state: str
) -> None:
    server = Redis.from_url(valkey)
    server.execute_command("ACL", "SETUSER", "default", forbidden)
    try:
        assert vitals.redis_state() == state
    finally:
        server.execute_command("ACL", "SETUSER", "default", "+@all")


def test_a_redis_that_is_away_is_said_to_be(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "client", lambda: Redis("127.0.0.1", 1, socket_timeout=1))
    assert vitals.redis_state() == "unavailable"


def test_a_database_that_is_away_is_said_to_be(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    db.session.remove()
    db.engine.dispose()
    monkeypatch.setattr(db.engine.dialect, "connect", _cannot_connect(db.engine.dialect.connect))
    assert readiness.trouble() is UNREADABLE


def _cannot_connect(connect):  # type: ignore[no-untyped-def]
    def fail(*_args: object, **_kwargs: object) -> object:
        return connect("/no/such/directory/portal.db")

    return fail


def test_what_somebody_wrote_in_place_of_a_worker_is_no_worker(
    app: Flask, valkey: str, signed_in: Callable[[str], FlaskClient], client: FlaskClient
) -> None:
    redis = Redis.from_url(valkey)
    for queue in (queues.DELIVERIES, queues.MAINTENANCE):
        names = f"rq:workers:{queues.name_of(queue)}"
        redis.hset(
            "rq:worker:odd",
            mapping={
                "last_heartbeat": "never",
                "hostname": b"\xff",
                "pid": "<b>",
                "state": b"\xff",
            },
        )
        redis.hset(b"\xff\xfe", mapping={"last_heartbeat": b"\xff"})
        redis.set("rq:worker:text", "x")
        redis.sadd(names, "rq:worker:odd", b"\xff\xfe", "rq:worker:text")
    assert vitals.workers_state() == "none"
    assert client.get("/readyz").status_code == 200
    assert signed_in("operator").get("/staff/operations").status_code == 200
