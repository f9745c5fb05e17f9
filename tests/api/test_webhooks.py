"""Webhooks by API: set up, changed, tried out, mended."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from standardwebhooks import Webhook as Verifier

from portal.clock import DAY, SECOND, now
from portal.composing import compose
from portal.db.session import db
from portal.ids import new_id
from portal.models import AuditEntry, Merchant, Recovery, Webhook
from portal.models.webhook import MASK
from portal.recovery import recovery
from tests import factories
from tests.api.caller import Caller, problem
from tests.api.conftest import ORDER, webhook_fields
from tests.receiver import Receiver

FULL: dict[str, Any] = {
    "description": "ERP",
    "url": "https://erp.example.com/hook?x=1",
    "method": "PUT",
    "query_params": {"store": "7", "who": "{{ event.object_id }}"},
    "headers": {"X-Auth": {"value": "hunter2", "secret": True}, "X-Shop": "north"},
    "events": ["order.created", "customer.*"],
    "include_object_record": False,
    "only_sources": ["storefront", "admin:17"],
    "except_sources": ["erp"],
    "body_template": '{"id": "{{ event.object_id }}"}',
    "retry_schedule": [0, 10, 60],
    "timeout_seconds": 5,
    "enabled": False,
    "auth": {"type": "basic", "user": "erp", "password": "hunter2-basic"},
}
MASKED_AUTH = {"type": "basic", "user": "erp", "password": MASK}
MASKED = {"X-Auth": {"value": MASK, "secret": True}, "X-Shop": "north"}


def test_a_webhook_is_made_with_defaults(api: Caller) -> None:
    answer = api.post("/webhooks", webhook_fields())
    assert answer.status_code == 201
    made = answer.get_json()
    assert made["id"].startswith("wh_")
    assert made["secret"].startswith("whsec_")
    assert answer.headers["Location"].endswith(f"/api/v1/webhooks/{made['id']}")
    assert (made["method"], made["enabled"], made["state"]) == ("POST", True, "enabled")
    assert (made["headers"], made["query_params"]) == ({}, {})
    assert (made["only_sources"], made["except_sources"]) == ([], [])
    assert made["created_at"] == pytest.approx(now() // SECOND, abs=5)


def test_a_webhook_keeps_every_field(api: Caller) -> None:
    made = api.post("/webhooks", FULL).get_json()
    shown = api.get(f"/webhooks/{made['id']}").get_json()
    assert {name: shown[name] for name in FULL} == FULL | {"headers": MASKED, "auth": MASKED_AUTH}
    assert shown["state"] == "disabled"


def test_the_secret_is_shown_once(api: Caller, reader: Caller) -> None:
    made = api.post("/webhooks", FULL).get_json()
    for answer in (
        api.get("/webhooks"),
        api.get(f"/webhooks/{made['id']}"),
        reader.get("/webhooks"),
        api.patch(f"/webhooks/{made['id']}", {"description": "x"}),
        api.post(f"/webhooks/{made['id']}/enable"),
        api.post(f"/webhooks/{made['id']}/disable"),
    ):
        assert answer.status_code == 200
        assert made["secret"] not in answer.text
        assert '"secret":"' not in answer.text
        assert "hunter2" not in answer.text


def test_an_own_secret_is_taken(api: Caller) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert api.post("/webhooks", webhook_fields(secret=secret)).get_json()["secret"] == secret


def test_webhooks_are_listed_newest_first(api: Caller) -> None:
    ids = [api.post("/webhooks", webhook_fields()).get_json()["id"] for _ in range(3)]
    page = api.get("/webhooks").get_json()
    assert [one["id"] for one in page["data"]] == ids[::-1]
    assert page["next_cursor"] is None


def test_a_change_changes_what_it_names(api: Caller) -> None:
    made = api.post("/webhooks", FULL).get_json()
    answer = api.patch(f"/webhooks/{made['id']}", {"description": "new", "events": ["*"]})
    assert answer.status_code == 200
    expected = FULL | {
        "headers": MASKED,
        "auth": MASKED_AUTH,
        "description": "new",
        "events": ["*"],
    }
    assert {name: answer.get_json()[name] for name in FULL} == expected
    assert answer.get_json()["version"] == made["version"] + 1


def test_a_masked_value_that_comes_back_keeps_the_secret(api: Caller) -> None:
    made = api.post("/webhooks", FULL).get_json()
    answer = api.patch(f"/webhooks/{made['id']}", {"headers": made["headers"] | {"X-New": "1"}})
    assert answer.status_code == 200
    assert answer.get_json()["headers"] == MASKED | {"X-New": "1"}


def test_a_change_of_the_user_keeps_the_password_and_another_server_does_not(api: Caller) -> None:
    path = f"/webhooks/{api.post('/webhooks', FULL).get_json()['id']}"
    changed = api.patch(path, {"auth": {"type": "basic", "user": "shop"}}).get_json()
    assert changed["auth"] == MASKED_AUTH | {"user": "shop"}
    webhook = db.session.scalars(sa.select(Webhook)).one()
    assert compose.authorization(webhook.auth) == basic("shop", "hunter2-basic")
    moved = {"url": "https://other.example.com/", "headers": {}}
    errors = problem(api.patch(path, moved), 422)["errors"]
    assert [error["pointer"] for error in errors] == ["/auth/password"]
    assert api.patch(path, moved | {"auth": None}).get_json()["auth"] is None
    entries = db.session.scalars(sa.select(AuditEntry).order_by(AuditEntry.at)).all()
    assert "hunter2" not in str([entry.detail for entry in entries])


def test_a_test_event_authenticates_and_its_log_shows_no_secret(
    api: Caller, receiver: Receiver
) -> None:
    fields = webhook_fields(
        url=receiver.url(),
        auth={"type": "basic", "user": "käufer", "password": "{{ päss }}"},
        headers={"X-Order": "{{ event.object_id }}"},
    )
    made = api.post("/webhooks", fields).get_json()
    tried = api.post(f"/webhooks/{made['id']}/test", {"type": "order.created"}).get_json()
    (request,) = receiver.ledger
    assert request.headers["Authorization"] == basic("käufer", "{{ päss }}")
    logged = api.get(f"/attempts/{tried['request_id']}").get_json()["request"]["headers"]
    assert logged["Authorization"] == MASK


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_change_of_an_older_version_is_a_conflict(api: Caller, webhook: dict[str, Any]) -> None:
    path = f"/webhooks/{webhook['id']}"
    first = {"description": "first", "version": webhook["version"]}
    assert api.patch(path, first).status_code == 200
    problem(api.patch(path, {"description": "second", "version": webhook["version"]}), 409)
    assert api.get(path).get_json()["description"] == "first"


def test_a_deleted_webhook_is_gone_and_owes_nothing(api: Caller, webhook: dict[str, Any]) -> None:
    event = api.post("/events", ORDER).get_json()
    answer = api.delete(f"/webhooks/{webhook['id']}")
    assert (answer.status_code, answer.data) == (204, b"")
    problem(api.get(f"/webhooks/{webhook['id']}"), 404)
    problem(api.delete(f"/webhooks/{webhook['id']}"), 404)
    assert api.get("/webhooks").get_json()["data"] == []
    (delivery,) = api.get(f"/events/{event['id']}/deliveries").get_json()["data"]
    assert delivery["state"] == "discarded"
    assert api.post("/events", ORDER).get_json()["deliveries"] == 0


def test_rotation_gives_a_new_secret_and_keeps_the_old_for_its_overlap(
    api: Caller, webhook: dict[str, Any]
) -> None:
    answer = api.post(f"/webhooks/{webhook['id']}/rotate-secret", {"overlap_hours": 2})
    assert answer.status_code == 200
    new = answer.get_json()["secret"]
    assert new.startswith("whsec_")
    assert new != webhook["secret"]
    stored = db.session.get_one(Webhook, webhook["id"])
    assert stored.signing_secrets(now()) == [new, webhook["secret"]]
    assert stored.signing_secrets(now() + DAY) == [new]


def test_rotation_overlaps_24_hours_where_nothing_is_said(
    api: Caller, webhook: dict[str, Any]
) -> None:
    assert api.post(f"/webhooks/{webhook['id']}/rotate-secret").status_code == 200
    stored = db.session.get_one(Webhook, webhook["id"])
    (old,) = stored.old_secrets
    assert old["until"] == pytest.approx(now() + DAY, abs=5 * SECOND)


def test_disabling_holds_and_enabling_sends(api: Caller, webhook: dict[str, Any]) -> None:
    path = f"/webhooks/{webhook['id']}"
    event = api.post("/events", ORDER).get_json()
    answer = api.post(f"{path}/disable", {"reason": "The ERP is being moved."})
    assert answer.status_code == 200
    assert (answer.get_json()["enabled"], answer.get_json()["state"]) == (False, "disabled")
    assert answer.get_json()["disabled_reason"] == "The ERP is being moved."
    (delivery,) = api.get(f"/events/{event['id']}/deliveries").get_json()["data"]
    assert delivery["state"] == "held"
    assert api.post(f"{path}/disable").status_code == 200
    answer = api.post(f"{path}/enable")
    assert (answer.get_json()["enabled"], answer.get_json()["state"]) == (True, "enabled")
    assert answer.get_json()["disabled_reason"] is None
    (delivery,) = api.get(f"/events/{event['id']}/deliveries").get_json()["data"]
    assert delivery["state"] == "pending"


def test_a_test_event_is_sent_at_once_and_verifies(api: Caller, receiver: Receiver) -> None:
    made = api.post("/webhooks", webhook_fields(url=receiver.url())).get_json()
    answer = api.post(f"/webhooks/{made['id']}/test", {"type": "order.created"})
    assert answer.status_code == 200
    attempt = answer.get_json()
    assert (attempt["status"], attempt["error"], attempt["trigger"]) == (200, None, "test")
    assert attempt["webhook_id"] == made["id"]
    (request,) = receiver.ledger
    Verifier(made["secret"]).verify(request.body, request.headers)
    shown = api.get(f"/attempts/{attempt['request_id']}").get_json()
    assert shown["request"]["body"].encode() == request.body
    event = api.get(f"/events/{attempt['event_id']}").get_json()
    assert event["is_test"] is True


def test_a_test_that_fails_answers_with_the_error(api: Caller, receiver: Receiver) -> None:
    url = receiver.url()
    receiver.close()
    made = api.post("/webhooks", webhook_fields(url=url)).get_json()
    answer = api.post(f"/webhooks/{made['id']}/test", {"type": "order.created"})
    assert answer.status_code == 200
    assert answer.get_json()["status"] is None
    assert answer.get_json()["error"]


def test_recovery_counts_what_it_sends_again(
    app: Flask,
    api: Caller,
    alice: Merchant,
    webhook: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However slow the machine is, the request does it all.
    monkeypatch.setattr(recovery, "REQUEST_SECONDS", 60.0)
    target = db.session.get_one(Webhook, webhook["id"])
    for age in (0, 1, 9):
        event = factories.make_event(alice, received_at=now() - age * DAY)
        factories.make_delivery(event, target, "failed", finished_at=now() - age * DAY)
    factories.make_delivery(factories.make_event(alice), target, "succeeded")
    answer = api.post(f"/webhooks/{webhook['id']}/recover", {"since": now() // SECOND - 2 * 86_400})
    content = answer.get_json()
    assert answer.status_code == 202
    assert (content["deliveries"], content["exact"]) == (2, True)
    row = api.get(f"/recoveries/{content['recovery_id']}").get_json()
    assert (row["state"], row["total"], row["done"]) == ("finished", 2, 2)
    states = [row["state"] for row in api.get("/deliveries").get_json()["data"]]
    assert sorted(states) == ["failed", "pending", "pending", "succeeded"]


def test_what_is_held_is_discarded_by_its_age(
    app: Flask, api: Caller, alice: Merchant, webhook: dict[str, Any]
) -> None:
    path = f"/webhooks/{webhook['id']}/discard-held"
    problem(api.post(path), 409)
    api.post(f"/webhooks/{webhook['id']}/disable")
    target = db.session.get_one(Webhook, webhook["id"])
    for age in (0, 1, 9):
        factories.make_delivery(factories.make_event(alice, received_at=now() - age * DAY), target)
    answer = api.post(path, {"since": now() // SECOND - 2 * 86_400})
    assert (answer.status_code, answer.get_json()["deliveries"]) == (202, 2)
    assert api.post(path).get_json()["deliveries"] == 1
    states = [row["state"] for row in api.get("/deliveries").get_json()["data"]]
    assert states == ["discarded"] * 3


def test_a_recovery_is_paused_resumed_and_cancelled(
    app: Flask, api: Caller, bobs: Caller, alice: Merchant, webhook: dict[str, Any]
) -> None:
    recovery_id = new_id("rcv")
    db.session.add(
        Recovery(
            id=recovery_id,
            merchant_id=alice.id,
            webhook_id=webhook["id"],
            action="send",
            states=["failed"],
            filters={"status": "5xx"},
            before=now(),
            created_by="cli",
        )
    )
    db.session.commit()
    for call, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        problem(bobs.post(f"/recoveries/{recovery_id}/{call}"), 404)
        answer = api.post(f"/recoveries/{recovery_id}/{call}")
        assert (answer.status_code, answer.get_json()["state"]) == (200, state)
    problem(api.post(f"/recoveries/{recovery_id}/resume"), 409)
    row = api.get(f"/recoveries/{recovery_id}").get_json()
    assert (row["status"], row["error"], row["total"]) == ("5xx", None, None)


def test_a_disabled_webhook_cannot_recover(api: Caller, webhook: dict[str, Any]) -> None:
    api.post(f"/webhooks/{webhook['id']}/disable")
    problem(api.post(f"/webhooks/{webhook['id']}/recover", {"since": 0}), 409)


@pytest.mark.parametrize(
    ("method", "call", "content"),
    [
        ("GET", "", None),
        ("PATCH", "", {"description": "x"}),
        ("DELETE", "", None),
        ("POST", "/rotate-secret", None),
        ("POST", "/test", {"type": "order.created"}),
        ("POST", "/enable", None),
        ("POST", "/disable", None),
        ("POST", "/recover", {"since": 0}),
        ("POST", "/discard-held", None),
    ],
)
def test_an_unknown_webhook_is_404(
    api: Caller, method: str, call: str, content: dict[str, Any] | None
) -> None:
    path = f"/webhooks/wh_nothing{call}"
    body = (
        {} if content is None else {"data": json.dumps(content), "content_type": "application/json"}
    )
    problem(api.call(method, path, **body), 404)


def test_what_a_key_does_is_in_the_audit_log(api: Caller, webhook: dict[str, Any]) -> None:
    path = f"/webhooks/{webhook['id']}"
    api.patch(path, {"description": "new"})
    api.post(f"{path}/rotate-secret")
    api.post(f"{path}/disable")
    api.post(f"{path}/enable")
    api.delete(path)
    entries = db.session.scalars(
        sa.select(AuditEntry)
        .where(AuditEntry.action.startswith("webhook."))
        .order_by(AuditEntry.id)
    ).all()
    assert [entry.action for entry in entries] == [
        "webhook.created",
        "webhook.updated",
        "webhook.secret_rotated",
        "webhook.disabled",
        "webhook.enabled",
        "webhook.deleted",
    ]
    assert {entry.actor.partition("_")[0] for entry in entries} == {"key:key"}
