"""Who may call what: keys, scopes, and merchants that see nothing of each other."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from portal.clock import now
from portal.db.session import db
from portal.ids import new_id
from portal.models import Delivery, Merchant, Recovery
from portal.people import accounts
from portal.web.access import ACCESS, PUBLIC
from tests.api.caller import BASE, Caller, problem
from tests.api.conftest import ORDER, stored, webhook_fields
from tests.conftest import on_both_databases
from tests.factories import make_attempt

pytestmark = on_both_databases

PRIVATE = sorted(
    name for name, allowed in ACCESS.items() if name.startswith("api.") and allowed is not PUBLIC
)
WRITING = [name for name in PRIVATE if ACCESS[name] == {"write"}]


def _requests(app: Flask, endpoint: str, identifier: str = "x") -> list[tuple[str, str]]:
    """(method, path) of each rule of an endpoint, with an ID in each place."""
    found = []
    for rule in app.url_map.iter_rules(endpoint):
        path = re.sub(r"<[^>]+>", identifier, rule.rule).removeprefix(BASE)
        found += [(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    assert found
    return found


@pytest.mark.parametrize("endpoint", PRIVATE)
def test_without_a_key_nothing_is_answered(app: Flask, stranger: Caller, endpoint: str) -> None:
    for method, path in _requests(app, endpoint):
        answer = stranger.call(method, path)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Webhook Portal"'


@pytest.mark.parametrize(
    "header",
    [
        "Bearer whp_nobody",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "bearer  x",
        "whp_nobody",
        "Bearer ÿ",
        "Bearer " + "x" * 10_000,
    ],
)
def test_a_header_without_a_valid_key_is_refused(stranger: Caller, header: str) -> None:
    answer = stranger.call("GET", "/events", headers={"Authorization": header})
    problem(answer, 401)
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_a_revoked_key_is_refused_at_once(app: Flask, alice: Merchant, api: Caller) -> None:
    assert api.get("/events").status_code == 200
    (key,) = accounts.keys(alice)
    accounts.revoke_key(alice, key.id, "cli")
    problem(api.get("/events"), 401)


@pytest.mark.parametrize("endpoint", WRITING)
def test_a_key_that_may_read_changes_nothing(app: Flask, reader: Caller, endpoint: str) -> None:
    before = stored()
    for method, path in _requests(app, endpoint):
        answer = reader.send(method, path, ORDER)
        problem(answer, 403)
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert stored() == before


@pytest.mark.parametrize(
    "path", ["/events", "/event-types", "/webhooks", "/deliveries", "/attempts"]
)
def test_both_scopes_read(api: Caller, reader: Caller, path: str) -> None:
    assert api.get(path).status_code == reader.get(path).status_code == 200


def _without_ids(answer: TestResponse) -> tuple[int, bytes, str]:
    return answer.status_code, answer.data, answer.headers["Content-Type"]


BODIES: dict[str, dict[str, Any]] = {
    "test": {"type": "order.created"},
    "recover": {"since": 0},
    "": {"description": "mine now"},
}


def test_anothers_objects_answer_exactly_like_unknown_ones(
    app: Flask, api: Caller, bobs: Caller, alice: Merchant
) -> None:
    webhook_id = api.post("/webhooks", webhook_fields()).get_json()["id"]
    event_id = api.post("/events", ORDER).get_json()["id"]
    (delivery,) = api.get(f"/events/{event_id}/deliveries").get_json()["data"]
    before = api.get(f"/webhooks/{webhook_id}").get_json()
    attempt = make_attempt(db.session.get_one(Delivery, delivery["id"]))
    row = Recovery(
        id=new_id("rcv"),
        merchant_id=alice.id,
        action="send",
        states=["failed"],
        before=now(),
        created_by="cli",
    )
    db.session.add(row)
    db.session.commit()
    ids = {
        "recovery_id": row.id,
        "event_id": event_id,
        "webhook_id": webhook_id,
        "delivery_id": delivery["id"],
        "request_id": attempt.id,
    }
    tried = 0
    for rule in app.url_map.iter_rules():
        names = rule.arguments & ids.keys()
        if rule.endpoint not in PRIVATE or not names:
            continue
        (name,) = names
        identifier = ids[name]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            path = rule.rule.removeprefix(BASE)
            body = BODIES.get(path.rpartition("/")[2], BODIES[""] if method == "PATCH" else {})
            theirs = bobs.send(method, path.replace(f"<{name}>", identifier), body)
            nobodys = bobs.send(method, path.replace(f"<{name}>", identifier[:-1] + "_"), body)
            problem(theirs, 404)
            assert _without_ids(theirs) == _without_ids(nobodys)
            tried += 1
    assert tried >= 18
    assert api.get(f"/webhooks/{webhook_id}").get_json() == before
    assert api.get("/deliveries", event_id=event_id).get_json()["data"] == [delivery]


def test_lists_hold_nothing_of_another_merchant(
    api: Caller, bobs: Caller, webhook: dict[str, Any], event: dict[str, Any]
) -> None:
    for path in ("/events", "/webhooks", "/deliveries", "/attempts"):
        assert bobs.get(path).get_json() == {"data": [], "next_cursor": None}
    for name, value in (("event_id", event["id"]), ("webhook_id", webhook["id"])):
        for path in ("/deliveries", "/attempts"):
            assert bobs.get(path, **{name: value}).get_json()["data"] == []


def test_merchants_may_use_the_same_event_id(api: Caller, bobs: Caller) -> None:
    assert api.post("/events", ORDER | {"id": "mine-1"}).status_code == 202
    other = ORDER | {"id": "mine-1", "data": {"total": "1.00"}}
    assert bobs.post("/events", other).status_code == 202
    assert api.get("/events/mine-1").get_json()["data"] == ORDER["data"]


@pytest.mark.parametrize("identifier", ["%00", "a%00b", "%0d%0a", "a%20b", "ä", "x" * 300, "..%5c"])
def test_an_id_that_cannot_be_is_unknown(api: Caller, identifier: str) -> None:
    for path in ("/events/", "/webhooks/", "/attempts/"):
        problem(api.get(path + identifier), 404)


@pytest.mark.parametrize(
    "path", ["", "/", "/nothing", "/events/", "/webhooks/a/b", "/events/a/b/c"]
)
def test_an_unknown_address_is_a_problem(api: Caller, stranger: Caller, path: str) -> None:
    problem(api.get(path), 404)
    problem(stranger.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/events", {"GET", "POST"}),
        ("DELETE", "/events/x", {"GET"}),
        ("POST", "/webhooks/x", {"GET", "PATCH", "DELETE"}),
        ("GET", "/webhooks/x/enable", {"POST"}),
        ("GET", "/deliveries/x/resend", {"POST"}),
    ],
)
def test_a_wrong_method_names_the_right_ones(
    api: Caller, method: str, path: str, allowed: set[str]
) -> None:
    answer = api.call(method, path)
    problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) >= allowed


def test_no_csrf_token_is_asked_for(app: Flask, api: Caller) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    app.config["WTF_CSRF_CHECK_DEFAULT"] = True
    assert api.post("/events", ORDER).status_code == 202
