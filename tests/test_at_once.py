"""Requests at the same moment: none gets past a limit, makes a thing twice, or ends in a 500."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.db.session import db
from portal.diagnosis import inspector, shares
from portal.events import catalogue
from portal.logs import saved
from portal.models import Attempt, InspectedRequest, Merchant, OwnEventType, SavedFilter
from portal.webhooks import setup
from tests.conftest import on_both_databases
from tests.factories import make_attempt, make_delivery, make_event, make_user, make_webhook
from tests.people.test_invitations import at_once

ACTOR = "user:ann@example.com"


@pytest.fixture
def slow(app: Flask) -> Iterator[None]:
    """Whoever looks takes some time before they write: the others look, too."""

    def rest(_connection, _cursor, statement: str, *_: object) -> None:
        if statement.startswith("SELECT"):
            time.sleep(0.01)

    sa.event.listen(db.engine, "after_cursor_execute", rest)
    yield
    sa.event.remove(db.engine, "after_cursor_execute", rest)


def count(model: type) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


@on_both_databases
def test_a_filter_that_is_saved_twice_at_once_is_one(app: Flask, merchant: Merchant, slow: None):
    user, merchant_id = make_user(role="viewer", merchant=merchant).id, merchant.id
    acts = [lambda: saved.save_filter(user, merchant_id, "events", "mine", "type=order.*")] * 4
    assert at_once(app, acts) == ["done"] * 4
    assert count(SavedFilter) == 1


@on_both_databases
def test_an_event_type_that_is_added_twice_at_once_is_one(
    app: Flask, merchant: Merchant, slow: None
):
    merchant_id = merchant.id
    acts = [lambda: catalogue.add_type(merchant_id, {"name": "my.type"}, ACTOR)] * 4
    assert sorted(at_once(app, acts)) == ["Conflict"] * 3 + ["done"]
    assert count(OwnEventType) == 1


@on_both_databases
@pytest.mark.parametrize("what", ["filters", "webhooks", "types", "shares"])
def test_no_limit_is_passed_by_many_at_once(
    app: Flask, merchant: Merchant, slow: None, what: str, monkeypatch: pytest.MonkeyPatch
):
    user, merchant_id = make_user(role="viewer", merchant=merchant).id, merchant.id
    # A link counts while its maker may make some.
    make_user(merchant=merchant, email="ann@example.com")
    attempt: Attempt = make_attempt(make_delivery(make_event(merchant), make_webhook(merchant)))
    attempt_id = attempt.id
    for module, name in (
        (saved, "MAX_SAVED"),
        (setup, "MAX_WEBHOOKS"),
        (catalogue, "MAX_OWN_TYPES"),
        (shares, "MAX_OPEN"),
    ):
        monkeypatch.setattr(module, name, 2)
    acts: dict[str, Callable[[int], Callable[[], object]]] = {
        "filters": lambda number: (
            lambda: saved.save_filter(user, merchant_id, "events", f"n{number}", "type=order.*")
        ),
        "webhooks": lambda number: (
            lambda: setup.create_webhook(
                merchant_id, {"url": f"https://127.0.0.1/{number}", "events": ["*"]}, ACTOR
            )
        ),
        "types": lambda number: (
            lambda: catalogue.add_type(merchant_id, {"name": f"my.n{number}"}, ACTOR)
        ),
        "shares": lambda _: lambda: shares.create_share(merchant_id, attempt_id, "1", ACTOR),
    }
    # One webhook is there already.
    left = 1 if what == "webhooks" else 2
    outcomes = at_once(app, [acts[what](number) for number in range(5)])
    assert sorted(outcomes) == ["Conflict"] * (5 - left) + ["done"] * left


@on_both_databases
def test_a_page_of_what_is_deleted_meanwhile_says_so(
    app: Flask,
    merchant: Merchant,
    signed_in: Callable[[str], FlaskClient],
    monkeypatch: pytest.MonkeyPatch,
):
    inspector.prepare(merchant.id, ACTOR)
    own = inspector.find(merchant.id)
    assert own is not None
    inspector.receive(own.token, inspector.Received("POST", "/", [], b"x"))
    client, newest = signed_in("owner"), inspector.newest

    def and_then_it_is_removed(own: inspector.Inspector) -> list[InspectedRequest]:
        found = newest(own)
        with db.engine.begin() as elsewhere:
            db.session.rollback()
            elsewhere.execute(sa.delete(InspectedRequest))
        return found

    monkeypatch.setattr(inspector, "newest", and_then_it_is_removed)
    answer = client.get("/m/alice/inspector")
    assert answer.status_code == 404
    assert "deleted at this very moment" in answer.text


@on_both_databases
def test_an_inspector_that_is_removed_twice_at_once_is_removed_once(
    app: Flask, merchant: Merchant, slow: None
):
    merchant_id = merchant.id
    inspector.prepare(merchant_id, ACTOR)
    outcomes = at_once(app, [lambda: inspector.remove(merchant_id, ACTOR)] * 3)
    assert sorted(outcomes) == ["NotFound", "NotFound", "done"]
