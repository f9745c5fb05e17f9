"""Idempotency-Key: what is sent again is done once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.api.operations import OPERATIONS
from portal.clock import DAY, now
from portal.db.session import db
from portal.models import Event, IdempotencyKey, Merchant, Webhook
from portal.upkeep import retention
from portal.webhooks import setup
from tests.api.caller import Caller, problem
from tests.api.conftest import ORDER, webhook_fields
from tests.conftest import on_both_databases
from tests.receiver import Receiver

KEY = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'


def send(api: Caller, path: str, content: Any, key: str = KEY) -> Any:
    return api.call("POST", path, json=content, headers={"Idempotency-Key": key})


def count(model: Any) -> int:
    db.session.rollback()
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


@on_both_databases
def test_a_webhook_asked_for_twice_is_made_once_and_answered_the_same(api: Caller) -> None:
    first, again = (send(api, "/webhooks", webhook_fields()) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.get_json() == first.get_json()
    assert first.get_json()["secret"].startswith("whsec_")
    for name in ("Content-Type", "Location", "ETag"):
        assert again.headers[name] == first.headers[name]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert count(Webhook) == 1


def test_the_answer_that_is_kept_shows_no_secret(api: Caller) -> None:
    secret = send(api, "/webhooks", webhook_fields()).get_json()["secret"]
    row = db.session.scalars(sa.select(IdempotencyKey)).one()
    assert secret not in str(row.answer_token)


def test_the_same_key_with_another_request_is_refused(api: Caller) -> None:
    made = send(api, "/webhooks", webhook_fields()).get_json()
    problem(send(api, "/webhooks", webhook_fields(description="Other")), 422)
    problem(send(api, f"/webhooks/{made['id']}/rotate-secret", {}), 422)
    assert count(Webhook) == 1


def test_quotes_around_a_key_are_no_part_of_it(api: Caller) -> None:
    first, again = (send(api, "/webhooks", webhook_fields(), key) for key in ('"k 1"', '"k 1"'))
    assert first.get_json() == again.get_json()
    bare, quoted = (send(api, "/webhooks", webhook_fields(), key) for key in ("k1", '"k1"'))
    assert bare.get_json() == quoted.get_json()


@pytest.mark.parametrize("key", ["", '""', '"', "a b", '"é"', "x" * 256, '"a\\b"'])
@pytest.mark.parametrize(("path", "content"), [("/webhooks", webhook_fields()), ("/events", ORDER)])
def test_what_is_no_key_is_refused(
    api: Caller, nothing_stored: None, path: str, content: Any, key: str
) -> None:
    problem(send(api, path, content, key), 400)


def test_what_was_refused_can_be_mended_and_sent_with_the_same_key(api: Caller) -> None:
    problem(send(api, "/webhooks", webhook_fields(url="ftp://x")), 422, "/url")
    assert send(api, "/webhooks", webhook_fields()).status_code == 201


@on_both_databases
def test_a_request_that_was_cut_off_is_neither_done_again_nor_claimed(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = setup.create_webhook

    def killed(*arguments: Any, **options: Any) -> Any:
        create(*arguments, **options)
        raise RuntimeError("as if the process had been killed here")

    monkeypatch.setattr(setup, "create_webhook", killed)
    assert send(api, "/webhooks", webhook_fields()).status_code == 500
    monkeypatch.undo()
    problem(send(api, "/webhooks", webhook_fields()), 409)
    assert count(Webhook) == 1


def test_while_the_first_is_under_way_the_second_is_told(
    api: Caller, webhook: dict[str, Any], receiver: Receiver, wait_for: Any
) -> None:
    receiver.delay = 2.0
    api.patch(f"/webhooks/{webhook['id']}", {"url": receiver.url()})
    path, content = f"/webhooks/{webhook['id']}/test", {"type": "order.created"}
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.append(send(api, path, content)))
    thread.start()
    wait_for(lambda: receiver.ledger)
    problem(send(api, path, content), 409)
    thread.join()
    assert send(api, path, content).get_json() == first[0].get_json()
    assert len(receiver.ledger) == 1


def test_keys_of_one_merchant_are_nothing_to_another(api: Caller, bobs: Caller) -> None:
    alices = send(api, "/webhooks", webhook_fields()).get_json()
    other = send(bobs, "/webhooks", webhook_fields())
    assert other.status_code == 201
    assert other.get_json()["id"] != alices["id"]


@on_both_databases
def test_a_key_is_forgotten_after_a_day(api: Caller, alice: Merchant) -> None:
    for key in ("old", "young"):
        send(api, "/webhooks", webhook_fields(), key)
    db.session.execute(
        sa.update(IdempotencyKey).where(IdempotencyKey.key == "old").values(created_at=now() - DAY)
    )
    db.session.commit()
    again = send(api, "/webhooks", webhook_fields(description="Other"), "old")
    assert again.status_code == 201
    assert count(IdempotencyKey) == 2
    retention.purge_expired(moment=now() + DAY)
    assert count(IdempotencyKey) == 0


def test_expired_keys_go_in_batches(
    api: Caller, alice: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FEWEST_ROWS", "FIRST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(retention, name, 2)
    db.session.add_all(
        IdempotencyKey(merchant_id=alice.id, key=str(number), digest="d") for number in range(5)
    )
    db.session.commit()
    retention.purge_expired(moment=now() + DAY)
    assert count(IdempotencyKey) == 0


@on_both_databases
def test_events_sent_again_with_their_key_are_stored_once(api: Caller) -> None:
    for content in (ORDER, {"events": [ORDER, ORDER | {"object_id": "1001"}]}):
        key = f'"{len(content)}"'
        first, again = (send(api, "/events", content, key) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.get_json() == first.get_json()
    assert count(Event) == 3
    assert count(IdempotencyKey) == 0


def test_other_events_with_the_same_key_are_refused(api: Caller) -> None:
    send(api, "/events", ORDER)
    problem(send(api, "/events", ORDER | {"object_id": "1001"}), 422, "/id")
    assert count(Event) == 1


def test_events_without_a_key_cost_no_statement_more(app: Flask, api: Caller) -> None:
    def statements(**headers: str) -> int:
        seen: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        sa.event.listen(db.engine, "before_cursor_execute", note)
        assert api.call("POST", "/events", json=ORDER, headers=headers).status_code == 202
        sa.event.remove(db.engine, "before_cursor_execute", note)
        assert not any("idempotency" in statement for statement in seen)
        return len(seen)

    statements()
    # With the key the event has an ID, which is looked for.
    assert statements(**{"Idempotency-Key": "k"}) == statements() + 1


@pytest.mark.parametrize("name", [one.name for one in OPERATIONS if one.method == "POST"])
def test_every_post_takes_a_key(app: Flask, name: str) -> None:
    guarded = hasattr(app.view_functions[f"api.{name}"], "__wrapped__")
    assert guarded == (name != "create_events")
