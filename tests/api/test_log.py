"""Deliveries and attempts by API: what is owed, what was sent, what came back."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import sqlalchemy as sa

from portal.clock import DAY, SECOND, now
from portal.db.session import db, writing
from portal.models import Attempt, AttemptPayload, Delivery, Event, EventPayload, Merchant, Webhook
from tests import factories
from tests.api.caller import Caller, problem
from tests.conftest import on_both_databases

pytestmark = on_both_databases


class Log:
    """Three events owed to two webhooks, and the attempts made."""

    def __init__(self, merchant: Merchant):
        self.erp = factories.make_webhook(merchant, "https://erp.example.com/hook")
        self.crm = factories.make_webhook(merchant, "https://crm.example.com/", method="PUT")
        self.events = [factories.make_event(merchant) for _ in range(3)]
        first, second, third = self.events
        self.sent = factories.make_delivery(first, self.erp, "succeeded")
        self.failed = factories.make_delivery(second, self.erp, "failed")
        self.waiting = factories.make_delivery(third, self.erp)
        self.other = factories.make_delivery(first, self.crm, "succeeded")
        self.attempts = [
            factories.make_attempt(self.sent, 200),
            factories.make_attempt(self.failed, 500),
            factories.make_attempt(self.failed, None, error="connect_timeout", number=2),
            factories.make_attempt(self.other, 204, method="PUT", trigger="manual"),
        ]


@pytest.fixture
def log(alice: Merchant) -> Log:
    return Log(alice)


def _ids(page: dict[str, Any], name: str = "id") -> list[str]:
    return [row[name] for row in page["data"]]


def test_a_delivery_shows_what_is_owed_and_when(api: Caller, log: Log) -> None:
    rows = {row["id"]: row for row in api.get("/deliveries").get_json()["data"]}
    assert rows[log.waiting.id] == {
        "id": log.waiting.id,
        "event_id": log.events[2].id,
        "webhook_id": log.erp.id,
        "state": "pending",
        "reason": None,
        "attempts": 0,
        "next_attempt_at": log.events[2].received_at // SECOND,
        "created_at": log.events[2].received_at // SECOND,
        "finished_at": None,
    }
    assert rows[log.sent.id]["state"] == "succeeded"
    assert rows[log.sent.id]["finished_at"] is not None


def test_deliveries_are_filtered(api: Caller, log: Log) -> None:
    def found(**query: str) -> set[str]:
        return set(_ids(api.get("/deliveries", **query).get_json()))

    assert found(webhook_id=log.crm.id) == {log.other.id}
    assert found(event_id=log.events[0].id) == {log.sent.id, log.other.id}
    assert found(state="failed") == {log.failed.id}
    assert found(state="pending") == {log.waiting.id}
    assert found(state="succeeded", webhook_id=log.erp.id) == {log.sent.id}
    assert found(webhook_id="wh_nothing") == set()
    assert found(since=str(now() // SECOND + 60)) == set()
    assert len(found(until=str(now() // SECOND))) == 4


def test_pending_deliveries_of_a_webhook_that_holds_are_held(api: Caller, log: Log) -> None:
    api.post(f"/webhooks/{log.erp.id}/disable")
    assert _ids(api.get("/deliveries", state="held").get_json()) == [log.waiting.id]
    assert _ids(api.get("/deliveries", state="pending").get_json()) == []
    (row,) = api.get(f"/events/{log.events[2].id}/deliveries").get_json()["data"]
    assert row["state"] == "held"


@pytest.mark.parametrize("state", ["sent", "PENDING", "%", "pending,failed"])
def test_a_state_that_does_not_exist_is_refused(api: Caller, state: str) -> None:
    problem(api.get("/deliveries", state=state), 422, "/state")


def test_deliveries_come_in_pages(api: Caller, log: Log) -> None:
    seen: list[str] = []
    query: dict[str, str] = {"limit": "3"}
    while True:
        page = api.get("/deliveries", **query).get_json()
        seen += _ids(page)
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert len(seen) == 4
    assert set(seen) == {log.sent.id, log.failed.id, log.waiting.id, log.other.id}


def test_a_delivery_can_be_sent_again(api: Caller, log: Log) -> None:
    answer = api.post(f"/deliveries/{log.sent.id}/resend")
    assert answer.status_code == 202
    row = answer.get_json()
    assert (row["id"], row["state"]) == (log.sent.id, "succeeded")
    assert row["next_attempt_at"] == pytest.approx(now() // SECOND, abs=5)
    db.session.rollback()
    assert db.session.get_one(Delivery, log.sent.id).trigger == "manual"


def test_what_cannot_be_sent_again_is_a_conflict(api: Caller, log: Log) -> None:
    with writing() as session:
        session.execute(sa.delete(EventPayload).where(EventPayload.event_id == log.events[1].id))
    problem(api.post(f"/deliveries/{log.failed.id}/resend"), 409)
    api.post(f"/webhooks/{log.crm.id}/disable")
    problem(api.post(f"/deliveries/{log.other.id}/resend"), 409)
    api.delete(f"/webhooks/{log.erp.id}")
    problem(api.post(f"/deliveries/{log.sent.id}/resend"), 409)


def test_an_unknown_delivery_is_404(api: Caller) -> None:
    problem(api.post("/deliveries/dlv_nothing/resend"), 404)


def test_an_attempt_shows_its_header_log(api: Caller, log: Log) -> None:
    page = api.get("/attempts", event_id=log.events[0].id, webhook_id=log.erp.id).get_json()
    (row,) = page["data"]
    attempt = log.attempts[0]
    assert row == {
        "request_id": attempt.id,
        "attempted_at": attempt.attempted_at // SECOND,
        "event_id": log.events[0].id,
        "webhook_id": log.erp.id,
        "delivery_id": log.sent.id,
        "number": 1,
        "trigger": "scheduled",
        "status": 200,
        "error": None,
        "error_detail": None,
        "duration_ms": 41,
        "timing": {
            "dns_ms": 1,
            "connect_ms": 5,
            "tls_ms": None,
            "send_ms": 1,
            "wait_ms": 29,
            "download_ms": 1,
        },
        "uri": "https://erp.example.com/hook",
        "method": "POST",
        "sends": 1,
    }


def test_attempts_are_newest_first_and_filtered(api: Caller, log: Log) -> None:
    first, second, third, fourth = [attempt.id for attempt in log.attempts]

    def found(**query: str) -> list[str]:
        return _ids(api.get("/attempts", **query).get_json(), "request_id")

    assert found() == [fourth, third, second, first]
    assert found(event_id=log.events[1].id) == [third, second]
    assert found(webhook_id=log.crm.id) == [fourth]
    assert found(status="500") == [second]
    assert found(status="2xx") == [fourth, first]
    assert found(status="none") == [third]
    assert found(method="PUT") == [fourth]
    assert found(method="GET") == []
    assert found(since=str(now() // SECOND + 60)) == []
    assert found(until=str(now() // SECOND), status="200") == [first]
    assert found(limit="1") == [fourth]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"status": "ok"}, "/status"),
        ({"status": "20"}, "/status"),
        ({"status": "-1"}, "/status"),
        ({"status": "9" * 50}, "/status"),
        ({"status": "7xx"}, "/status"),
        ({"method": "DELETE"}, "/method"),
        ({"method": "post "}, "/method"),
    ],
)
def test_a_filter_that_matches_nothing_ever_is_refused(
    api: Caller, query: dict[str, str], pointer: str
) -> None:
    problem(api.get("/attempts", **query), 422, pointer)


def test_attempts_come_in_pages(api: Caller, log: Log) -> None:
    first = api.get("/attempts", limit=3).get_json()
    factories.make_attempt(log.sent)
    rest = api.get("/attempts", limit=3, cursor=first["next_cursor"]).get_json()
    assert _ids(first, "request_id") + _ids(rest, "request_id") == [
        attempt.id for attempt in reversed(log.attempts)
    ]
    assert rest["next_cursor"] is None


def test_one_attempt_shows_its_payload_log(api: Caller, log: Log) -> None:
    shown = api.get(f"/attempts/{log.attempts[0].id}").get_json()
    listed = api.get("/attempts", event_id=log.events[0].id, webhook_id=log.erp.id).get_json()
    assert {name: shown[name] for name in listed["data"][0]} == listed["data"][0]
    assert shown["request"]["headers"] == {"Content-Type": "application/json"}
    sent = json.loads(shown["request"]["body"])
    assert sent["id"] == log.events[0].id
    assert sent["data"] == {"total": "99.50"}
    assert shown["response"] == {"headers": {"X-Trace": "7"}, "body": "ok", "truncated": False}
    assert shown["payload_expires_at"] == pytest.approx(now() // SECOND + 15 * 86_400, abs=10)


def test_an_answer_that_is_not_utf8_has_its_bytes_and_its_text(api: Caller, log: Log) -> None:
    headers = '[["Content-Type","text/plain; charset=Shift_JIS"]]'
    wanted = [("在庫なし".encode("shift_jis"), "在庫なし"), (b"\xff\x00", None)]
    made = [
        factories.make_attempt(log.sent, response_body=body, response_headers=headers).id
        for body, _ in wanted
    ]
    for attempt_id, (body, text) in zip(made, wanted, strict=True):
        shown = api.get(f"/attempts/{attempt_id}").get_json()["response"]
        assert base64.b64decode(shown["body"]) == body
        assert (shown["body_encoding"], shown["body_text"]) == ("base64", text)


def test_the_record_is_not_in_a_thin_body(api: Caller, log: Log) -> None:
    attempt = factories.make_attempt(log.sent, body_kind="thin")
    sent = json.loads(api.get(f"/attempts/{attempt.id}").get_json()["request"]["body"])
    assert "data" not in sent


def test_a_body_of_its_own_is_shown_as_it_was_sent(api: Caller, log: Log) -> None:
    body = '{ "text" : "Zürich" }'.encode()
    attempt = factories.make_attempt(log.sent, body_kind="own", request_body=body)
    shown = api.get(f"/attempts/{attempt.id}").get_json()
    assert shown["request"]["body"].encode() == body
    assert "body_encoding" not in shown["request"]


def test_a_request_without_a_body_shows_none(api: Caller, log: Log) -> None:
    attempt = factories.make_attempt(log.sent, body_kind="none", method="GET")
    assert api.get(f"/attempts/{attempt.id}").get_json()["request"]["body"] is None


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"\x89PNG\r\n", bytes(range(256))])
def test_bytes_that_are_not_utf_8_come_as_base64(api: Caller, log: Log, raw: bytes) -> None:
    attempt = factories.make_attempt(log.sent, response_body=raw)
    shown = api.get(f"/attempts/{attempt.id}").get_json()["response"]
    assert shown["body_encoding"] == "base64"
    assert base64.b64decode(shown["body"]) == raw


@pytest.mark.parametrize("raw", [b"", b"\x00", "Zürich 🛒 \u202e".encode(), b"<html>"])
def test_utf_8_comes_as_text(api: Caller, log: Log, raw: bytes) -> None:
    attempt = factories.make_attempt(log.sent, response_body=raw)
    shown = api.get(f"/attempts/{attempt.id}").get_json()["response"]
    assert "body_encoding" not in shown
    assert shown["body"].encode() == raw


def test_headers_that_came_several_times_are_joined(api: Caller, log: Log) -> None:
    pairs = '[["Vary","a"],["X","1"],["vary","b"]]'
    attempt = factories.make_attempt(log.sent, response_headers=pairs)
    shown = api.get(f"/attempts/{attempt.id}").get_json()["response"]
    assert shown["headers"] == {"Vary": "a, b", "X": "1"}


def test_an_attempt_without_an_answer_has_a_response_of_nulls(api: Caller, log: Log) -> None:
    attempt = factories.make_attempt(
        log.sent, None, error="dns_failed", response_headers=None, response_body=None
    )
    shown = api.get(f"/attempts/{attempt.id}").get_json()
    assert (shown["status"], shown["error"]) == (None, "dns_failed")
    assert shown["response"] == {"headers": None, "body": None, "truncated": False}


def test_an_expired_payload_is_null_and_says_when(api: Caller, log: Log) -> None:
    attempt = log.attempts[0]
    with writing() as session:
        session.execute(sa.delete(AttemptPayload))
        session.execute(sa.delete(EventPayload))
        session.execute(sa.update(Attempt).values(attempted_at=Attempt.attempted_at - 20 * DAY))
        session.execute(sa.update(Event).values(received_at=Event.received_at - 20 * DAY))
    shown = api.get(f"/attempts/{attempt.id}").get_json()
    assert (shown["request"], shown["response"]) == (None, None)
    assert shown["payload_expires_at"] < now() // SECOND
    assert shown["status"] == 200


def test_an_unknown_attempt_is_404(api: Caller) -> None:
    problem(api.get("/attempts/req_nothing"), 404)


def test_the_log_names_a_deleted_webhook_still(api: Caller, log: Log) -> None:
    api.delete(f"/webhooks/{log.erp.id}")
    db.session.rollback()
    assert db.session.get_one(Webhook, log.erp.id).deleted_at is not None
    assert len(api.get("/attempts", webhook_id=log.erp.id).get_json()["data"]) == 3
