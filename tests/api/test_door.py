"""The way in of the usual event, and Flask: neither answers what the other does not."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from portal import runtime
from portal.api import door, events, limits
from portal.api.limits import Limits
from portal.db.session import db
from portal.errors import StorageFull
from portal.journal import request_ids
from portal.models import Merchant
from portal.people import accounts
from portal.web import access
from tests.api.caller import Caller
from tests.conftest import on_both_databases

ORDER = {"type": "order.created", "data": {"total": 99.5}}
BATCH = {"events": [ORDER, {"type": "order.paid"}]}
BODY = json.dumps(ORDER).encode()
JSON = {"Content-Type": "application/json"}

CASES: dict[str, tuple[bytes, dict[str, str]]] = {
    "an event": (BODY, {}),
    "a batch": (json.dumps(BATCH).encode(), {}),
    "an empty batch": (b'{"events":[]}', {}),
    "an event with an ID": (json.dumps(ORDER | {"id": "evt_mine"}).encode(), {}),
    "its ID again with other content": (b'{"type":"order.paid","id":"evt_mine"}', {}),
    "an event with a key": (BODY, {"Idempotency-Key": '"one"'}),
    "the key again with other content": (b'{"type":"order.paid"}', {"Idempotency-Key": "one"}),
    "what is no key": (BODY, {"Idempotency-Key": "a b"}),
    "no JSON": (b"{", {}),
    "no object": (b"[1]", {}),
    "no UTF-8": (b'{"type":"\xff"}', {}),
    "nothing": (b"", {}),
    "a NUL": (b'{"type":"order.created","data":{"a":"\\u0000"}}', {}),
    "a name twice": (b'{"type":"order.created","type":"order.created"}', {}),
    "an unknown type": (b'{"type":"order.creatd"}', {}),
    "an unknown field": (b'{"type":"order.created","dta":1}', {}),
    "a batch with a wrong one": (b'{"events":[{"type":"order.created"},{}]}', {}),
    "no key": (BODY, {"Authorization": ""}),
    "an unknown key": (BODY, {"Authorization": "Bearer whp_unknown"}),
    "another scheme": (BODY, {"Authorization": "Basic YTpi"}),
    "a key in small letters": (BODY, {"Authorization": "bearer {key}  "}),
    "a key that may only read": (BODY, {"Authorization": "Bearer {reading}"}),
    "a revoked key": (BODY, {"Authorization": "Bearer {revoked}"}),
    "a form": (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
    "text": (BODY, {"Content-Type": "text/plain"}),
    "a charset": (BODY, {"Content-Type": "application/json; charset=utf-8"}),
    "a wrong charset": (BODY, {"Content-Type": "application/json; charset=latin-1"}),
    "a compressed body": (gzip.compress(BODY), {"Content-Encoding": "gzip"}),
    "a foreign name": (BODY, {"Host": "elsewhere.example.com"}),
    "no length": (BODY, {"Content-Length": ""}),
    "a length that is none": (BODY, {"Content-Length": "+80"}),
    "too much": (b'{"type":"order.created","data":{"a":"' + b"x" * 1_048_576 + b'"}}', {}),
    "nearly too much": (b'{"type":"order.created","data":{"a":"' + b"x" * 1_048_000 + b'"}}', {}),
    "a body that ends too early": (BODY, {"Content-Length": "1000"}),
}
AFTER = {
    "its ID again with other content": "an event with an ID",
    "the key again with other content": "an event with a key",
}


@pytest.fixture
def settings() -> dict[str, str]:
    return {"API_REQUESTS": "5", "API_WRONG_KEYS": "0", "PUBLIC_URL": "https://portal.example.com"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the limits, which stands still."""
    now = [1_000.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def keys(alice: Merchant) -> dict[str, str]:
    """Alice's keys, of every kind."""
    made = {
        name: accounts.create_key(alice, scope, "", "cli")
        for name, scope in (("key", "write"), ("reading", "read"), ("revoked", "write"))
    }
    accounts.revoke_key(alice, access.key_of(f"Bearer {made['revoked']}").id, "cli")  # type: ignore[union-attr]
    db.session.rollback()
    return made


def ask(
    app: Flask,
    keys: dict[str, str],
    body: bytes,
    headers: dict[str, str],
    address: str = "127.0.0.1",
) -> TestResponse:
    headers = {"Authorization": "Bearer {key}", "Host": "localhost", **JSON, **headers}
    # As the portal's own server says; elsewhere werkzeug has a word of its own for it.
    environ: dict[str, Any] = {"wsgi.input_terminated": True, "REMOTE_ADDR": address}
    if "Content-Length" in headers:
        environ["CONTENT_LENGTH"] = headers.pop("Content-Length")
    return app.test_client().post(
        "/api/v1/events",
        data=body,
        environ_overrides=environ,
        headers={name: value.format(**keys) for name, value in headers.items()},
    )


def told(answer: TestResponse) -> tuple[int, dict[str, str], str]:
    """An answer without what is another in each: IDs, and so nothing but those."""
    headers = dict(answer.headers)
    assert len(headers) == len(list(answer.headers)), "a header is there twice"
    assert re.fullmatch("[0-9a-f]{32}", headers.pop("X-Request-Id"))
    text = re.sub("evt_[0-9a-f]{32}", "evt_…", answer.text)
    return answer.status_code, headers, re.sub("[0-9a-f]{32}", "…", text)


@pytest.fixture
def by_flask(app: Flask) -> Iterator[list[str]]:
    """Which requests came to Flask."""
    came: list[str] = []
    app.before_request(lambda: came.append("one"))
    return came  # type: ignore[return-value]


@pytest.mark.parametrize("name", CASES)
def test_both_answer_the_same(
    app: Flask, keys: dict[str, str], clock: list[float], name: str
) -> None:
    if name in AFTER:
        assert ask(app, keys, *CASES[AFTER[name]]).status_code == 202
    runtime.of(app).put(Limits, Limits())
    answered = [told(ask(app, keys, *CASES[name])) for _ in range(2)]
    runtime.of(app).put(Limits, Limits())
    runtime.part(door.Door).is_closed = True
    assert [told(ask(app, keys, *CASES[name])) for _ in range(2)] == answered


@pytest.mark.parametrize(
    "name",
    [
        "an event",
        "a batch",
        "an event with an ID",
        "an event with a key",
        "a key in small letters",
        "nearly too much",
    ],
)
def test_what_is_usual_needs_nothing_of_flask(
    app: Flask, keys: dict[str, str], by_flask: list[str], name: str
) -> None:
    assert ask(app, keys, *CASES[name]).status_code == 202
    assert not by_flask


def test_wrong_keys_close_the_door_to_their_own_address_alone(
    app: Flask, keys: dict[str, str], by_flask: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "PORTAL", replace(app.config["PORTAL"], api_wrong_keys=2))
    for wrong in ("whp_1", "whp_2", "whp_3"):
        ask(app, {}, BODY, {"Authorization": f"Bearer {wrong}"})
    by_flask.clear()
    assert ask(app, keys, BODY, {}, "192.0.2.2").status_code == 202
    assert not by_flask
    # Behind theirs a key that was never right here is not even looked for.
    assert ask(app, {"key": keys["reading"]}, BODY, {}).status_code == 429


def test_a_request_too_many_is_refused_alike(
    app: Flask, keys: dict[str, str], clock: list[float]
) -> None:
    answered = [told(ask(app, keys, BODY, {})) for _ in range(7)]
    assert [status for status, _, _ in answered] == [202] * 5 + [429] * 2
    runtime.of(app).put(Limits, Limits())
    runtime.part(door.Door).is_closed = True
    assert [told(ask(app, keys, BODY, {})) for _ in range(7)] == answered


@pytest.mark.parametrize(
    "error",
    [
        StorageFull("There is no room.", 300),
        OperationalError("INSERT", {}, Exception("no disk")),
        KeyError("a defect"),
        TimeoutError(),
    ],
    ids=repr,
)
def test_what_fails_is_done_once_and_answered_alike(
    app: Flask,
    keys: dict[str, str],
    clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    tried = []

    def fails(*_: Any, **__: Any) -> None:
        tried.append("once")
        raise error

    monkeypatch.setattr(events, "ingest_events", fails)
    answered = told(ask(app, keys, BODY, {}))
    assert answered[0] >= 400
    assert answered[1]["RateLimit"] == '"key";r=4;t=1'
    assert len(tried) == 1
    runtime.of(app).put(Limits, Limits())
    runtime.part(door.Door).is_closed = True
    assert told(ask(app, keys, BODY, {})) == answered


@on_both_databases
def test_a_revoked_key_is_refused_at_once(app: Flask, alice: Merchant) -> None:
    text = accounts.create_key(alice, "write", "", "cli")
    keys = {"key": text}
    assert ask(app, keys, BODY, {}).status_code == 202
    found = access.key_of(f"Bearer {text}")
    assert found is not None
    accounts.revoke_key(alice, found.id, "cli")
    db.session.rollback()
    assert ask(app, keys, BODY, {}).status_code == 401


def test_lines_of_the_log_name_the_request(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = []
    stored = events.ingest_events

    def notes(*arguments: Any, **how: Any) -> Any:
        named.append(request_ids.current())
        logging.getLogger("portal").warning("Something.")
        return stored(*arguments, **how)

    monkeypatch.setattr(events, "ingest_events", notes)
    answer = api.post("/events", ORDER)
    assert named == [answer.headers["X-Request-Id"]]
    assert request_ids.current() is None
