"""What a merchant may store is bounded: beyond it events are refused, and nobody else notices."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from portal.audit import log
from portal.clock import DAY, HOUR, now
from portal.db.session import db
from portal.delivery import actions, drain
from portal.delivery.paces import Paces
from portal.errors import Invalid, StorageFull
from portal.fairness import places
from portal.ids import new_id
from portal.models import (
    Attempt,
    AttemptPayload,
    AuditEntry,
    Delivery,
    Event,
    EventPayload,
    MeasuredUntil,
    Merchant,
    OperationsEntry,
    StoredBytes,
    Webhook,
)
from portal.people import accounts, members, periods, storage_bounds
from portal.storage import allowance, measuring
from portal.storage.allowance import MB
from portal.upkeep import retention
from portal.webhooks import setup
from tests.conftest import on_both_databases
from tests.factories import make_event, make_merchant, make_user, make_webhook
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.7)

ORDER: dict[str, Any] = {"type": "order.created", "object_id": "1000", "data": {"total": "99.50"}}
SignIn = Callable[[str], FlaskClient]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"MERCHANT_MB": "10", "LANES": "1", "RETRY_SCHEDULE": "0"}


@pytest.fixture(autouse=True)
def _as_it_is(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is measured, and what is stored is read for each request."""
    measuring.measure()
    monkeypatch.setattr(allowance, "KEPT_SECONDS", -1.0)


def has_stored(merchant: Merchant, size: int) -> None:
    """As if so much of it were in the logs."""
    db.session.rollback()
    day = now() // DAY * DAY
    db.session.merge(StoredBytes(merchant_id=merchant.id, starts_at=day, logs=size, payloads=0))
    db.session.commit()


def send(app: Flask, merchant: Merchant, body: Any = ORDER) -> TestResponse:
    db.session.rollback()
    key = accounts.create_key(merchant, "write", new_id("key"), "test")
    return app.test_client().post(
        "/api/v1/events", json=body, headers={"Authorization": f"Bearer {key}"}
    )


def count(model: Any) -> int:
    db.session.rollback()
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


@on_both_databases
def test_beyond_it_events_are_refused_with_the_remedy_and_nothing_is_stored(
    app: Flask, merchant: Merchant
) -> None:
    make_webhook(merchant)
    bob = make_merchant("bob")
    has_stored(merchant, 10 * MB - 1)
    assert send(app, merchant).status_code == 202
    has_stored(merchant, 10 * MB)
    for body in (ORDER, {"events": [ORDER] * 300}, "not even an event"):
        refused = send(app, merchant, body)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "300"
        assert refused.content_type == "application/problem+json"
        assert refused.json is not None
        assert refused.json["type"].endswith("/api/docs#storage-full")
        assert refused.json["title"] == "The store's storage is full"
        assert "has stored 10 MB of 10 MB" in refused.json["detail"]
        assert "Keep its logs for fewer days" in refused.json["detail"]
    assert (count(Event), count(EventPayload), count(Delivery)) == (1, 1, 1)
    assert send(app, bob).status_code == 202
    ready = app.test_client().get("/readyz")
    assert ready.status_code == 200, "the portal itself has room"


def test_a_batch_that_is_stored_in_parts_is_taken_as_a_whole_or_not_at_all(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        make_webhook(merchant)
    has_stored(merchant, 10 * MB - 1)
    held = places.held

    def and_full(kind: str, merchant_id: int | None) -> Any:
        # Measured between its parts.
        if kind == places.BATCH:
            has_stored(merchant, 10 * MB)
        return held(kind, merchant_id)

    monkeypatch.setattr(places, "held", and_full)
    assert send(app, merchant, {"events": [ORDER] * 400}).status_code == 202
    assert count(Event) == 400
    assert send(app, merchant, {"events": [ORDER] * 400}).status_code == 429
    assert count(Event) == 400


@on_both_databases
def test_what_it_has_stored_itself_counts_and_what_is_deleted_makes_room(
    app: Flask, merchant: Merchant
) -> None:
    for number in range(12):
        make_event(merchant, data='"' + "x" * 900_000 + '"', received_at=now() - 20 * DAY + number)
    assert send(app, merchant).status_code == 202
    measuring.measure()
    assert send(app, merchant).status_code == 429
    retention.purge_expired()
    assert send(app, merchant).status_code == 202


@on_both_databases
def test_what_is_owed_by_then_is_sent_and_logged_without_what_would_fill_it_more(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    api_key: str,
    signed_in: SignIn,
) -> None:
    bob = make_merchant("bob")
    for owner in (merchant, bob):
        make_webhook(owner, receiver.url(), body_template='{"x": "{{ event.object_id }}"}')
        assert send(app, owner).status_code == 202
    has_stored(merchant, 11 * MB)
    assert drain.drain(0, paces=PACES) == 2
    assert [request.body for request in receiver.ledger] == [b'{"x": "1000"}'] * 2
    assert count(Attempt) == 2
    assert {one.state for one in db.session.scalars(sa.select(Delivery))} == {"succeeded"}
    assert db.session.scalars(sa.select(AttemptPayload.merchant_id)).all() == [bob.id]
    attempt = db.session.scalars(sa.select(Attempt).where(Attempt.merchant_id == merchant.id)).one()
    page = signed_in("viewer").get(f"/m/alice/attempts/{attempt.id}")
    assert page.status_code == 200
    assert "Request and response are not kept: the store’s storage was full" in page.text
    shown = app.test_client().get(
        f"/api/v1/attempts/{attempt.id}", headers={"Authorization": f"Bearer {api_key}"}
    )
    assert shown.json is not None
    assert (shown.json["status"], shown.json["request"], shown.json["response"]) == (
        200,
        None,
        None,
    )


@on_both_databases
def test_an_upgrade_refuses_nobody_who_has_stored_much(app: Flask) -> None:
    db.session.execute(sa.delete(MeasuredUntil))
    db.session.commit()
    slim, stout = make_merchant("slim"), make_merchant("stout")
    given = make_merchant("given", storage_mb=5)
    for merchant, number in ((slim, 4), (stout, 12), (given, 6)):
        for _ in range(number):
            make_event(merchant, data='"' + "x" * 1_000_000 + '"', received_at=now() - DAY)
    has_stored(make_merchant("counted"), 20 * MB)
    for merchant in (slim, stout, given):
        assert send(app, merchant).status_code == 202, "nobody knows yet"
    measuring.measure()
    db.session.rollback()
    assert (slim.storage_mb, given.storage_mb) == (None, 5)
    assert stout.storage_mb in (25, 26)
    assert send(app, given).status_code == 429
    assert send(app, stout).status_code == 202
    messages = db.session.scalars(sa.select(OperationsEntry.message)).all()
    assert any("Merchant stout has stored 12" in message for message in messages)
    measuring.measure()
    has_stored(slim, 30 * MB)
    measuring.measure()
    assert send(app, slim).status_code == 429, "it is done once"


def test_a_test_of_a_webhook_is_refused_too(merchant: Merchant, receiver: Receiver) -> None:
    webhook = make_webhook(merchant, receiver.url())
    has_stored(merchant, 10 * MB)
    with pytest.raises(StorageFull):
        actions.send_test(webhook.merchant_id, webhook.id, "order.created", "test")
    assert not receiver.ledger
    assert count(Event) == 0


@on_both_databases
def test_one_merchant_may_have_another_bound_and_who_gave_it_is_noted(
    app: Flask, merchant: Merchant
) -> None:
    has_stored(merchant, 11 * MB)
    for text, status in (("12", 202), ("11", 429), ("0", 202), ("", 429)):
        storage_bounds.change(merchant, text, "user:ann@example.com")
        assert send(app, merchant).status_code == status, text
    entry = db.session.scalars(
        sa.select(AuditEntry)
        .where(AuditEntry.action == "merchant.storage_changed")
        .order_by(AuditEntry.number)
    ).first()
    assert entry is not None
    assert entry.detail == {"storage_mb": 12, "before": {"storage_mb": None}}


@on_both_databases
def test_large_changes_are_refused_and_a_webhook_can_still_be_mended(merchant: Merchant) -> None:
    """The audit log keeps what was changed for ever."""
    fields = {"url": "https://erp.example.com/hook", "events": ["order.*"]}
    large = {"headers": {"X-Note": "n" * 5_000}}
    webhook = setup.create_webhook(merchant.id, fields, "cli")
    has_stored(merchant, 10 * MB)
    with pytest.raises(StorageFull):
        setup.create_webhook(merchant.id, fields | large, "cli")
    with pytest.raises(StorageFull):
        setup.update_webhook(webhook.merchant_id, webhook.id, large, "cli")
    db.session.rollback()
    assert db.session.scalars(sa.select(Webhook.headers)).all() == [[]]
    setup.update_webhook(
        webhook.merchant_id, webhook.id, {"url": "https://erp.example.com/mended"}, "cli"
    )
    setup.create_webhook(merchant.id, fields, "cli")
    assert db.session.scalars(sa.select(AuditEntry.action).order_by(AuditEntry.number)).all() == [
        "webhook.created",
        "webhook.updated",
        "webhook.created",
    ]


@on_both_databases
def test_far_beyond_it_nothing_more_is_noted_but_what_ends_something(merchant: Merchant) -> None:
    """Each entry is small, and a program can have any number made."""
    webhook = setup.create_webhook(
        merchant.id, {"url": "https://erp.example.com/hook", "events": ["order.*"]}, "cli"
    )
    accounts.create_key(merchant, "read", "one", "user:ann@example.com")
    has_stored(merchant, 19 * MB)
    accounts.create_key(merchant, "read", "two", "user:ann@example.com")
    has_stored(merchant, 20 * MB)
    for act in (
        lambda: accounts.create_key(merchant, "read", "three", "user:ann@example.com"),
        lambda: setup.update_webhook(
            webhook.merchant_id, webhook.id, {"description": "x"}, "key:key_1"
        ),
    ):
        with pytest.raises(StorageFull, match="nothing was changed"):
            act()
    for key in accounts.keys(merchant):
        accounts.revoke_key(merchant, key.id, "user:ann@example.com")
    setup.disable(webhook.merchant_id, webhook.id, "Enough.", "key:key_1")
    periods.change(merchant, "10", "5", "user:ann@example.com")
    setup.delete(webhook.merchant_id, webhook.id, "key:key_1")
    accounts.create_key(merchant, "read", "by the operator", "cli")


@on_both_databases
def test_far_beyond_it_what_keeps_others_out_and_makes_room_is_possible_and_bounded(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_A_DAY", 3)
    webhook = setup.create_webhook(
        merchant.id, {"url": "https://erp.example.com/hook", "events": ["order.*"]}, "cli"
    )
    make_user("owner", merchant, email="ann@example.com")
    bob = make_user("editor", merchant)
    bob_id, before = bob.id, webhook.secret
    has_stored(merchant, 20 * MB)
    again = itertools.count(10)
    acts: list[Callable[[str], object]] = [
        lambda actor: setup.rotate_secret(webhook.merchant_id, webhook.id, actor, 0),
        lambda actor: members.change_member(
            merchant, bob_id, ("viewer", "editor")[next(again) % 2], actor
        ),
        lambda actor: periods.change(merchant, str(next(again)), "5", actor),
    ]
    for act in acts:
        for _ in range(3):
            act("user:bob@example.com")
        with pytest.raises(StorageFull, match="nothing was changed"):
            act("user:bob@example.com")
        # Who does them for the sake of doing them uses up nobody else's.
        act("user:ann@example.com")
    db.session.rollback()
    assert db.session.scalars(sa.select(Webhook)).one().secret != before
    with time_machine.travel(time.time() + 86_401):
        setup.rotate_secret(webhook.merchant_id, webhook.id, "user:bob@example.com", 0)


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "٣", "9" * 5_000, "2000000001"])
def test_another_amount_is_refused_with_the_rule(merchant: Merchant, text: str) -> None:
    with pytest.raises(Invalid, match="Give a whole number of MB"):
        storage_bounds.change(merchant, text, "cli")
    assert merchant.storage_mb is None


def test_without_a_bound_nobody_is_refused(app: Flask, merchant: Merchant) -> None:
    app.config["PORTAL"] = replace(app.config["PORTAL"], merchant_mb=0)
    has_stored(merchant, 10**15)
    assert send(app, merchant).status_code == 202
    assert allowance.of([merchant.id])[merchant.id].bound is None


def test_events_wait_for_no_reading_of_it(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "KEPT_SECONDS", 60.0)
    reads: list[object] = []
    read = allowance.of
    monkeypatch.setattr(allowance, "of", lambda ids: reads.append(ids) or read(ids))
    for _ in range(5):
        assert send(app, merchant).status_code == 202
    assert len(reads) == 1


class TestPages:
    """Who is told, and where."""

    @pytest.fixture
    def signed_in(self, signed_in: SignIn) -> SignIn:
        def sign_in(role: str) -> FlaskClient:
            db.session.rollback()
            return signed_in(role)

        return sign_in

    def test_owners_and_operators_are_warned_from_four_fifths_on(
        self, signed_in: SignIn, merchant: Merchant
    ) -> None:
        has_stored(merchant, 8 * MB - 1)
        assert "Storage is nearly full" not in signed_in("owner").get("/m/alice/").text
        has_stored(merchant, 8 * MB)
        for role, is_told in (("owner", True), ("operator", True), ("viewer", False)):
            text = signed_in(role).get("/m/alice/webhooks").text
            assert ("Storage is nearly full (80 %)" in text) is is_told, role

    def test_everybody_is_told_that_events_are_refused(
        self, signed_in: SignIn, merchant: Merchant
    ) -> None:
        has_stored(merchant, 12_345 * MB)
        for role in ("owner", "operator", "viewer"):
            text = signed_in(role).get("/m/alice/events").text
            assert "Storage is full: new events are refused." in text
            assert "12.3 GB of 10 MB" in text

    def test_the_settings_show_it_and_operators_change_it(
        self, signed_in: SignIn, merchant: Merchant
    ) -> None:
        has_stored(merchant, 4 * MB)
        shown = signed_in("viewer").get("/m/alice/settings").text
        assert "4 MB" in shown
        assert "of 10 MB (40 %)" in shown
        assert 'name="storage_mb"' not in shown
        operator = signed_in("operator")
        assert 'name="storage_mb"' in operator.get("/m/alice/settings").text
        wrong = operator.post("/m/alice/settings/storage", data={"storage_mb": "much"})
        assert wrong.status_code == 422
        assert "Give a whole number of MB" in wrong.text
        assert 'value="much"' in wrong.text
        done = operator.post("/m/alice/settings/storage", data={"storage_mb": "20"})
        assert done.status_code == 303
        assert "of 20 MB (20 %)" in operator.get("/m/alice/settings").text
        refused = signed_in("owner").post("/m/alice/settings/storage", data={"storage_mb": "0"})
        assert refused.status_code == 403

    def test_staff_see_it_among_the_merchants(self, signed_in: SignIn, merchant: Merchant) -> None:
        make_merchant("bob")
        has_stored(merchant, 9 * MB)
        text = signed_in("auditor").get("/staff/merchants").text
        assert ">9 MB<" in text
        assert ">0 MB<" in text
        assert "90 %" in text

    def test_a_test_that_is_refused_says_so(self, signed_in: SignIn, merchant: Merchant) -> None:
        webhook = make_webhook(merchant)
        has_stored(merchant, 10 * MB)
        answer = signed_in("owner").post(
            f"/m/alice/webhooks/{webhook.id}/test", data={"type": "order.created"}
        )
        assert answer.status_code == 429
        assert "has stored 10 MB of 10 MB" in answer.text

    def test_metrics_have_it(self, client: FlaskClient, merchant: Merchant) -> None:
        has_stored(merchant, 10 * MB)
        has_stored(make_merchant("bob"), MB)
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
        }
        assert values["portal_stored_bytes"] == 11 * MB
        assert values["portal_merchants_full"] == 1


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 MB"),
        (123_456, "0.1 MB"),
        (120 * MB, "120 MB"),
        (9_876 * MB, "9.8 GB"),
        (10_000 * MB, "10 GB"),
        (1_234_567 * MB, "1,234.5 GB"),
        (999_990_000, "999.9 MB"),
    ],
)
def test_amounts_are_said_as_disks_are_sold(size: int, text: str) -> None:
    assert allowance.amount(size) == text


def test_hours_of_a_day_are_one_row(merchant: Merchant) -> None:
    day = (now() - 3 * DAY) // DAY * DAY
    for hour in (0, 23):
        make_event(merchant, received_at=day + hour * HOUR)
    measuring.measure()
    assert count(StoredBytes) == 1
