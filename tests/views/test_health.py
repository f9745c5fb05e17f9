"""For machines that watch: alive, ready, and numbers, without a sign-in."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from rq.worker import WorkerStatus
from werkzeug.test import Client
from werkzeug.wrappers import Response

from portal import queues, runtime, signs
from portal.clock import HOUR, SECOND, now
from portal.database_errors import CONNECTIONS, FULL
from portal.db.session import db
from portal.fairness import gate
from portal.installation import KnownName
from portal.models import Installation, Merchant
from portal.people import accounts
from portal.run.worker import PortalWorker
from portal.upkeep import readiness, vitals
from tests import factories

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def test_a_process_that_answers_is_alive(client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_a_streamed_answer_keeps_its_place_until_it_is_closed(app: Flask) -> None:
    def stream(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/stream":
            return app.wsgi_app(environ, start_response)
        return Response(iter(["first", "second"]))(environ, start_response)

    gated = Client(gate.add_to(stream, 1))
    streamed = gated.get("/stream", buffered=False)
    assert next(streamed.iter_encoded()) == b"first"
    answered = threading.Event()
    asking = threading.Thread(target=lambda: gated.get("/sign-in") and answered.set())
    asking.start()
    for method in ("GET", "HEAD"):
        for path in ("/healthz", "/readyz"):
            assert gated.open(path, method=method).status_code == 200
    assert not answered.wait(0.5)
    streamed.close()
    assert answered.wait(10)
    asking.join()


def test_a_request_that_fails_gives_its_place_back() -> None:
    def fails(_environ: object, _start: object) -> list[bytes]:
        raise ZeroDivisionError

    gated = gate.add_to(fails, 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            gated({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: lambda _: None)


def test_ready_is_answered_in_time_while_all_connections_are_in_use(client: FlaskClient) -> None:
    pool = db.engine.pool
    taken = [db.engine.connect() for _ in range(pool.size() + pool._max_overflow)]  # type: ignore[attr-defined]
    try:
        began = time.monotonic()
        answer = client.get("/readyz")
        assert time.monotonic() - began < 2.5
        assert (answer.status_code, answer.json["cause"]) == (503, "silent")
        time.sleep(5)
        assert readiness.trouble() is CONNECTIONS
    finally:
        for one in taken:
            one.close()
    time.sleep(readiness.KNOWN_SECONDS)
    assert client.get("/readyz").status_code == 200


@pytest.fixture
def worker(app: Flask) -> Iterator[PortalWorker]:
    """A worker for deliveries as Redis knows it."""
    worker = PortalWorker(queues.DELIVERIES, queues.blocking_client())
    worker.register_birth()
    worker.set_state(WorkerStatus.IDLE)
    worker.heartbeat()
    yield worker
    worker.teardown()


def test_ready_with_everything_in_reach(client: FlaskClient, worker: PortalWorker) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json == {"status": "ok", "database": "ok", "redis": "ok", "workers": "ok"}


def test_degraded_and_still_ready_without_a_worker(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json == {"status": "degraded", "database": "ok", "redis": "ok", "workers": "none"}


def test_whether_workers_live_is_unknown_while_redis_is_too_full_to_be_told(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "redis_state", lambda: "full")
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json == {
        "status": "degraded",
        "database": "ok",
        "redis": "full",
        "workers": "unknown",
    }


def test_a_worker_that_stands_still_does_not_count(
    client: FlaskClient, worker: PortalWorker
) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=signs.SILENT / SECOND + 1)
    with time_machine.travel(moment):
        assert client.get("/readyz").json["workers"] == "none"  # type: ignore[index]


def test_a_worker_of_another_installation_does_not_count(
    app: Flask, client: FlaskClient, worker: PortalWorker
) -> None:
    db.session.execute(sa.update(Installation).values(name="another"))
    db.session.commit()
    runtime.of(app).put(KnownName, KnownName())
    assert client.get("/readyz").json["workers"] == "none"  # type: ignore[index]


@pytest.mark.parametrize("state", ["unavailable", "full"])
def test_degraded_and_still_ready_without_redis(
    client: FlaskClient, worker: PortalWorker, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(vitals, "redis_state", lambda: state)
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json == {"status": "degraded", "database": "ok", "redis": state, "workers": "ok"}


def test_not_ready_without_the_database(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "trouble", lambda: FULL)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {
        "status": "unavailable",
        "database": "unavailable",
        "redis": "ok",
        "cause": "full",
        "detail": "There is no room on the disk of the database: make some.",
    }


def test_metrics_are_what_prometheus_reads(client: FlaskClient, merchant: Merchant) -> None:
    webhook, event = factories.make_webhook(merchant), factories.make_event(merchant)
    factories.make_attempt(factories.make_delivery(event, webhook), 500)
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain")
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if not family.name.startswith("portal_write_")
    }
    assert values == {
        ("portal_events_accepted_last_minute",): 1,
        ("portal_attempts_last_minute", "succeeded"): 0,
        ("portal_attempts_last_minute", "failed"): 1,
        ("portal_deliveries_waiting", "due"): 1,
        ("portal_deliveries_waiting", "scheduled"): 0,
        ("portal_deliveries_waiting", "held"): 0,
        ("portal_csp_reports_last_hour",): 0,
        ("portal_audit_entries_total",): 0,
        ("portal_stored_bytes",): 0,
        ("portal_merchants_full",): 0,
    }


def test_turns_to_write_are_counted(client: FlaskClient, merchant: Merchant) -> None:
    def value(name: str) -> float:
        (line,) = re.findall(rf"^{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
        return float(line)

    before = value("portal_write_turns_total")
    accounts.create_merchant("bob", "", "cli")
    assert value("portal_write_turns_total") == before + 1
    assert value("portal_write_turns_kept_seconds_total") > 0
    assert value("portal_write_turns_long_total") == 0
    assert value("portal_write_turn_held_seconds") == 0
    assert value("portal_write_log_bytes") > 0


def test_reports_and_audit_entries_are_counted(client: FlaskClient) -> None:
    report = {"csp-report": {"document-uri": "/", "blocked-uri": "inline"}}
    for moment in (now() - 2 * HOUR, now()):
        with time_machine.travel(moment / SECOND):
            report["csp-report"]["effective-directive"] = f"style-src {moment}"
            assert client.post("/csp-reports", json=report).status_code == 204
    accounts.create_merchant("bob", "", "cli")
    text = client.get("/metrics").text
    assert "portal_csp_reports_last_hour 1.0" in text
    assert "# TYPE portal_audit_entries_total counter" in text
    assert "portal_audit_entries_total 1.0" in text
    assert "_created" not in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_machines_get_no_cookie(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert "Set-Cookie" not in answer.headers
    assert "Vary" not in answer.headers
