"""Browsers' reports about the Content-Security-Policy: for staff, and of no use to strangers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal import queues
from portal.db.session import db
from portal.models.audit import OperationsEntry
from portal.web import policy_reports

REPORT = {
    "document-uri": "http://localhost/m/alice/events?text=secret-order",
    "line-number": 7,
    "effective-directive": "script-src-elem",
    "blocked-uri": "https://evil.example/x.js?y",
    "source-file": "http://localhost/m/alice/events?z",
}


def send(client: FlaskClient, report: Any, **changes: Any) -> int:
    body = json.dumps({"csp-report": report | changes} if isinstance(report, dict) else report)
    answer = client.post("/csp-reports", data=body, content_type="application/csp-report")
    assert "Set-Cookie" not in answer.headers
    return answer.status_code


def written() -> list[str]:
    db.session.rollback()
    return list(
        db.session.scalars(
            sa.select(OperationsEntry.message).where(OperationsEntry.kind == policy_reports.KIND)
        )
    )


def test_a_report_is_shown_to_staff_once_and_without_what_was_looked_for(
    client: FlaskClient, signed_in: Callable[..., FlaskClient]
):
    assert [send(client, REPORT) for _ in range(3)] == [204] * 3
    assert written() == [
        "A browser refused https://evil.example by script-src-elem on the page /m/alice/events, "
        "from /m/alice/events line 7"
    ]
    page = signed_in("operator").get("/staff/operations").text
    assert "A browser refused https://evil.example by script-src-elem" in page


def test_what_a_stranger_writes_is_text(client: FlaskClient, signed_in: Callable[..., FlaskClient]):
    assert send(client, REPORT, **{"blocked-uri": "<script>alert(1)</script>\u202e"}) == 204
    assert send(client, REPORT, **{"effective-directive": "<b>" + "x" * 5_000}) == 204
    assert send(client, REPORT, **{"document-uri": ["[::1", {"a": 1}], "source-file": None}) == 204
    page = signed_in("operator").get("/staff/operations").text
    assert "<script>alert(1)" not in page
    assert "<b>xxx" not in page
    assert max(map(len, written())) < 1_000


def test_a_flood_fills_nothing(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(policy_reports, "MAX_PER_HOUR", 3)
    statuses = [
        send(client, REPORT, **{"blocked-uri": f"https://{number}.example"}) for number in range(40)
    ]
    assert statuses.count(429) == 10
    assert len(written()) == 3
    # Nor Redis: what is not written down is not remembered.
    assert len(list(queues.client().scan_iter(f"{queues.key('csp', '')}*"))) <= 3 + 2


def test_who_lowers_the_count_in_redis_has_no_more_written_down(client: FlaskClient):
    queues.client().set(queues.key("csp", "hour"), -999_999_999)
    assert send(client, REPORT) == 204
    assert not written()
    assert 0 < int(queues.client().ttl(queues.key("csp", "hour"))) <= 3_600  # type: ignore[arg-type]


@pytest.mark.parametrize("body", ["", "x", "[]", "{}", '{"csp-report": 1}', "\xff"])
def test_what_is_no_report_is_refused(client: FlaskClient, body: str):
    answer = client.post("/csp-reports", data=body.encode("latin-1"))
    assert answer.status_code == 400


@pytest.mark.parametrize("written", ["no number", "x" * 10_000_000, None])
def test_what_somebody_wrote_in_place_of_the_count_is_no_error(
    client: FlaskClient, written: str | None
):
    redis, name = queues.client(), queues.key("csp", "hour")
    if written is None:
        redis.rpush(name, "x")
    else:
        redis.set(name, written)
    report = {"csp-report": {"effective-directive": "script-src"}}
    assert client.post("/csp-reports", data=json.dumps(report)).status_code == 204


def test_a_report_is_small(client: FlaskClient):
    assert send(client, REPORT, **{"script-sample": "x" * policy_reports.MAX_REPORT}) == 413


def test_pages_name_the_place(client: FlaskClient):
    policy = client.get("/sign-in").headers["Content-Security-Policy"]
    assert "report-uri /csp-reports" in policy
