"""When the portal itself fails: the right status, and nothing of its insides."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import TooManyRequests

from portal import runtime
from portal.api import events, key_use, webhooks
from portal.api.key_use import KeyUse
from portal.db.session import db
from portal.errors import Unavailable
from portal.models import ApiKey
from tests.api.caller import Caller, problem
from tests.api.conftest import ORDER


def _raises(error: Exception) -> Any:
    def fail(*_args: Any, **_options: Any) -> None:
        raise error

    return fail


def test_a_defect_is_a_500_that_tells_nothing(
    api: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "ingest_events", _raises(RuntimeError("secret insides")))
    answer = api.post("/events", ORDER)
    problem(answer, 500)
    assert "secret insides" not in answer.text
    assert "secret insides" in caplog.text


def test_a_statement_that_fails_tells_nothing_of_itself(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OperationalError("SELECT secret_token", {}, sqlite3.OperationalError("no such table"))
    monkeypatch.setattr(webhooks.setup, "list_webhooks", _raises(error))
    answer = api.get("/webhooks")
    problem(answer, 500)
    assert "SELECT" not in answer.text


@pytest.mark.parametrize("path", ["/events", "/webhooks"])
def test_a_database_that_cannot_store_is_a_503_with_retry_after(
    api: Caller, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    error = Unavailable("The database is busy or away; nothing was stored.")
    monkeypatch.setattr(events, "ingest_events", _raises(error))
    monkeypatch.setattr(webhooks.setup, "create_webhook", _raises(error))
    answer = api.post(path, ORDER)
    problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_database_that_cannot_be_read_is_a_503_with_retry_after(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = sqlite3.OperationalError("database is locked")
    locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error = OperationalError("SELECT 1", {}, locked)
    monkeypatch.setattr(webhooks.setup, "list_webhooks", _raises(error))
    answer = api.get("/webhooks")
    problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


def test_too_many_requests_say_when_to_come_again(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks.setup, "list_webhooks", _raises(TooManyRequests()))
    answer = api.get("/webhooks")
    problem(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0


def _last_used() -> int | None:
    db.session.rollback()
    return db.session.scalar(sa.select(ApiKey.last_used_at))


def _statements(app: Flask) -> list[str]:
    seen: list[str] = []

    @sa.event.listens_for(db.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    return seen


def test_the_last_use_of_a_key_is_noted_at_most_once_a_minute(app: Flask, api: Caller) -> None:
    assert _last_used() is None
    api.get("/webhooks")
    first = _last_used()
    assert first is not None
    seen = _statements(app)
    for _ in range(5):
        api.get("/webhooks")
        api.post("/events", ORDER)
    assert _last_used() == first
    assert not [statement for statement in seen if "UPDATE api_key" in statement]


def test_another_process_does_not_note_it_within_the_minute(app: Flask, api: Caller) -> None:
    api.get("/webhooks")
    first = _last_used()
    runtime.of(app).put(KeyUse, KeyUse())
    api.get("/webhooks")
    assert _last_used() == first


def test_an_event_is_accepted_although_the_last_use_cannot_be_noted(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_use, "writing", _raises(Unavailable("busy")))
    assert api.post("/events", ORDER).status_code == 202
    assert _last_used() is None


def test_a_refused_request_is_no_use(api: Caller) -> None:
    problem(api.post("/events", {}), 422)
    assert _last_used() is None
