"""What staff see: what runs now, merchants in numbers, the audit log and its files."""

from __future__ import annotations

import csv
import io
import json
import socket
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from portal import create_app, queues
from portal.audit import log
from portal.clock import DAY, HOUR, now
from portal.config import load_config
from portal.counts import statistics
from portal.db import keyset
from portal.db.session import db, writing
from portal.models import AttemptCount, EventCount, Merchant
from portal.models.statistics import ALL
from portal.people import accounts
from portal.upkeep import redis_now, vitals
from tests import factories
from tests.conftest import on_both_databases

SignIn = Callable[[str], FlaskClient]
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}


def test_queues_and_workers_are_shown_as_they_are(
    app: Flask, valkey: str, signed_in: SignIn
) -> None:
    redis = Redis.from_url(valkey)
    queues.queue_of(queues.DELIVERIES).enqueue(queues.DRAIN, 3, job_id="drain-3")
    name = queues.name_of(queues.DELIVERIES)
    worker = SimpleWorker([name], connection=redis, serializer=JSONSerializer)
    worker.register_birth()
    try:
        assert [(queue.name, queue.waiting) for queue in redis_now.queues_now()] == [
            ("deliveries", 1),
            ("maintenance", 0),
        ]
        (seen,) = redis_now.workers_now()
        assert (seen.queue, seen.name) == ("deliveries", worker.name[:8])
        assert socket.gethostname() in seen.process
        page = signed_in("auditor").get("/staff/operations").text
        assert socket.gethostname() in page
        assert "1 waiting" in page
    finally:
        worker.register_death()
    db.session.rollback()
    part = signed_in("operator").get("/staff/operations", headers=PART).text
    assert "No worker runs" in part
    assert "<html" not in part


def test_looking_at_workers_leaves_the_connection_impatient(app: Flask) -> None:
    redis_now.workers_now()
    assert queues.client().connection_pool.connection_kwargs["socket_timeout"] == 1


@pytest.fixture
def without_redis(app: Flask, environment: dict[str, str]) -> Iterator[Flask]:
    """The same portal with a Redis that is away."""
    away = create_app(load_config(environment | {"PORTAL_REDIS_URL": "unix:///nowhere/r.sock"}))
    away.config["WTF_CSRF_ENABLED"] = False
    away.test_client_class = app.test_client_class
    yield away
    with away.app_context():
        db.engine.dispose()
    create_app(load_config(environment))


def test_without_redis_the_page_says_so_calmly(app: Flask, without_redis: Flask) -> None:
    operator = factories.make_user("operator")
    client = without_redis.test_client()
    client.post("/sign-in", data={"email": operator.email, "password": "correct horse battery"})
    page = client.get("/staff/operations")
    assert page.status_code == 200
    assert "Redis does not answer" in page.text
    assert "Nothing is lost" in page.text
    assert "Deliveries due" in page.text


@on_both_databases
def test_lanes_tell_who_drains_them_and_what_they_carry(merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant)
    for state in ({"held_at": 1}, {"deleted_at": 1}):
        factories.make_webhook(merchant, **state).lane = webhook.lane
        db.session.commit()
    factories.make_delivery(factories.make_event(merchant), webhook)
    lanes = vitals.lanes_now()
    assert [lane.id for lane in lanes] == [0, 1, 2, 3]
    lane = lanes[webhook.lane]
    assert (lane.owner, lane.webhooks, lane.held, lane.is_forgotten) == (None, 2, 1, True)
    assert sum(other.webhooks for other in lanes) == 2


@on_both_databases
def test_merchants_are_listed_with_their_last_24_hours(merchant: Merchant) -> None:
    other = factories.make_merchant("bob")
    hour = now() - now() % HOUR
    with writing() as session:
        for starts_at, events in ((hour, 5), (hour - HOUR, 7), (hour - 2 * DAY, 1_000)):
            session.add(EventCount(merchant_id=merchant.id, starts_at=starts_at, events=events))
        for webhook_id, attempts in ((ALL, 10), ("wh_1", 10)):
            session.add(
                AttemptCount(
                    merchant_id=merchant.id,
                    starts_at=hour,
                    webhook_id=webhook_id,
                    took=3,
                    attempts=attempts,
                    successes=9,
                )
            )
    counts = statistics.by_merchant([merchant.id, other.id])
    assert (counts[merchant.id].events, counts[merchant.id].attempts) == (12, 10)
    assert counts[merchant.id].rate == 0.9
    assert (counts[other.id].events, counts[other.id].rate) == (0, None)
    assert statistics.by_merchant([]) == {}


def test_the_list_of_merchants_shows_the_numbers(merchant: Merchant, signed_in: SignIn) -> None:
    hour = now() - now() % HOUR
    with writing() as session:
        session.add(EventCount(merchant_id=merchant.id, starts_at=hour, events=1_234))
    page = signed_in("auditor").get("/staff/merchants").text
    assert "1,234" in page


class TestAuditLog:
    @pytest.fixture
    def auditor(self, signed_in: SignIn) -> FlaskClient:
        with writing() as session:
            log.record(session, "user:olga@example.com", "merchant.created", "=cmd|' /C calc'!A0")
        for number in range(3):
            accounts.create_merchant(f"shop-{number}", "", "user:otto@example.com")
        client = signed_in("auditor")
        db.session.rollback()
        return client

    def test_it_is_filtered_by_time(self, auditor: FlaskClient) -> None:
        assert "shop-1" in auditor.get("/staff/audit?since=1h").text
        assert "Nothing fits" in auditor.get("/staff/audit?until=2020-01-01").text
        wrong = auditor.get("/staff/audit?since=yesterday&actor=otto")
        assert wrong.status_code == 422
        assert "From is no moment" in wrong.text
        assert 'value="yesterday"' in wrong.text
        assert 'value="otto"' in wrong.text

    def test_what_is_filtered_is_downloaded_as_csv(self, auditor: FlaskClient) -> None:
        answer = auditor.get("/staff/export/audit.csv?actor=o&since=1h&action=merchant.created")
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="all-audit')
        rows = list(csv.DictReader(io.StringIO(answer.data.decode("utf-8-sig"))))
        assert [row["on"] for row in rows] == ["shop-2", "shop-1", "shop-0", "'=cmd|' /C calc'!A0"]
        assert rows[0]["who"] == "user:otto@example.com"
        only = auditor.get("/staff/export/audit.csv?actor=olga").text
        assert "shop-" not in only

    def test_what_is_filtered_is_downloaded_as_json_lines(
        self, auditor: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keyset, "BATCH", 2)
        answer = auditor.get("/staff/export/audit.jsonl?action=merchant")
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert len(rows) == 4
        assert {row["what"] for row in rows} == {"merchant.created"}
        numbers = [row["number"] for row in rows]
        assert numbers == sorted(numbers, reverse=True)

    def test_wrong_filters_and_kinds_make_no_file(self, auditor: FlaskClient) -> None:
        assert auditor.get("/staff/export/audit.csv?since=yesterday").status_code == 422
        assert auditor.get("/staff/export/audit.exe").status_code == 404

    @pytest.mark.parametrize("role", ["owner", "viewer"])
    def test_it_is_for_staff_alone(self, signed_in: SignIn, role: str) -> None:
        assert signed_in(role).get("/staff/export/audit.csv").status_code == 403
