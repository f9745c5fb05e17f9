"""What people do with deliveries: again, all again, none, and a try."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import HOUR, MINUTE, now
from portal.db.session import db
from portal.delivery import actions, drain
from portal.delivery.paces import Paces
from portal.errors import Conflict, Invalid, NotFound
from portal.logs import browse
from portal.models import Attempt, AuditEntry, Delivery, Event, EventPayload, Merchant
from tests.conftest import on_both_databases
from tests.factories import make_attempt, make_delivery, make_event, make_merchant, make_webhook
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.7)


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@contextmanager
def meanwhile(app: Flask, what: Callable[[], object]) -> Iterator[sa.Connection]:
    """A transaction that writes first, and `what` beside it in a thread, from when the block has
    written until it waits for that; then the transaction commits, and `what` goes on."""

    def run() -> None:
        with app.app_context():
            what()

    thread = threading.Thread(target=run)
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    db.session.rollback()
    with db.engine.connect() as first:
        yield first
        thread.start()
        deadline = time.monotonic() + 10
        with db.engine.connect() as other:
            while other.scalar(sa.text(waits)) is None:
                assert thread.is_alive(), "it did not wait for what was being written"
                assert time.monotonic() < deadline
                other.rollback()
                time.sleep(0.01)
        first.commit()
    thread.join(10)


def end(connection: sa.Connection, delivery: Delivery, state: str) -> None:
    """What the recorder writes when an attempt was the last one."""
    connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery.id)
        .values(state=state, finished_at=now(), next_attempt_at=None)
    )


def the(model: Any) -> Any:
    db.session.rollback()
    (row,) = db.session.scalars(sa.select(model)).all()
    return row


@pytest.mark.parametrize("state", ["failed", "discarded"])
def test_a_finished_delivery_is_sent_once_more(merchant: Merchant, receiver: Receiver, state: str):
    owed = make_delivery(make_event(merchant), make_webhook(merchant, receiver.url()), state)
    receiver.always = 500
    actions.resend(merchant.id, owed.id, "user:ann@example.com")
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 1
    attempt = the(Attempt)
    assert (attempt.trigger, attempt.number) == ("manual", 2)
    assert the(Delivery).state == "failed"
    assert the(AuditEntry).action == "delivery.resent"


def test_one_that_waits_keeps_all_its_retries_when_a_person_sends_it_meanwhile(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url(), retry_schedule=[0, 5, 1_800, 3_600])
    for step, seconds in ((1, 5), (2, 1_800), (3, 3_600)):
        owed = make_delivery(
            make_event(merchant),
            webhook,
            step=step,
            attempts=step,
            is_retry=True,
            next_attempt_at=now() + HOUR,
        )
        receiver.always = 422
        actions.resend(merchant.id, owed.id, "cli")
        drain.drain(0, paces=PACES)
        db.session.refresh(owed)
        assert (owed.state, owed.step, owed.attempts) == ("pending", step, step + 1)
        wait = ((owed.next_attempt_at or 0) - now()) / 1_000_000
        assert seconds * 0.85 - 5 < wait < seconds * 1.15


@on_both_databases
def test_delivered_stays_delivered_whatever_comes_of_sending_it_again(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url())
    owed = make_delivery(
        make_event(merchant, deliveries=1), webhook, "succeeded", finished_at=now() - HOUR
    )
    make_attempt(owed, 200)
    delivery_id, event_id, finished_at = owed.id, owed.event_id, owed.finished_at
    merchant_id = merchant.id
    receiver.always = 500
    actions.resend(merchant_id, delivery_id, "cli")
    assert the(Delivery).shown_state(webhook) == "succeeded", "also before it was tried"
    assert browse.delivery_states([the(Event)]) == {(merchant_id, event_id): {"succeeded": 1}}
    found = browse.deliveries(merchant_id, {"state": "succeeded"}).rows
    assert [row.id for row, _ in found] == [delivery_id]
    for state in ("pending", "held"):
        assert browse.deliveries(merchant_id, {"state": state}).rows == []
    drain.drain(0, paces=PACES)
    again = the(Delivery)
    assert (again.state, again.finished_at, again.next_attempt_at) == (
        "succeeded",
        finished_at,
        None,
    )
    assert (again.attempts, len(receiver.ledger)) == (2, 1), "one try, and no more"


@on_both_databases
def test_what_is_sent_again_is_delivered_still_when_its_webhook_is_deleted_meanwhile(
    merchant: Merchant,
):
    webhook = make_webhook(merchant)
    delivered = make_delivery(make_event(merchant), webhook, "succeeded", finished_at=5)
    waits = make_delivery(make_event(merchant), webhook)
    ids = delivered.id, waits.id
    actions.resend(merchant.id, delivered.id, "cli")
    assert actions.discard_pending(webhook.id, "The webhook was deleted.") == 2
    db.session.rollback()
    rows = [db.session.get_one(Delivery, one) for one in ids]
    assert [(row.state, row.reason) for row in rows] == [
        ("succeeded", None),
        ("discarded", "The webhook was deleted."),
    ]
    assert rows[0].finished_at == 5


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_one_that_fails_while_all_are_discarded_has_failed(app: Flask, merchant: Merchant):
    webhook = make_webhook(merchant)
    owed, whose = make_delivery(make_event(merchant), webhook), webhook.id
    with meanwhile(app, lambda: actions.discard_pending(whose, "Enough.")) as recorder:
        end(recorder, owed, "failed")
    assert (the(Delivery).state, the(Delivery).reason) == ("failed", None)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_one_that_is_delivered_while_a_person_sends_it_again_is_sent_again(
    app: Flask, merchant: Merchant
):
    webhook = make_webhook(merchant)
    owed = make_delivery(make_event(merchant), webhook)
    merchant_id, delivery_id = merchant.id, owed.id
    with meanwhile(app, lambda: actions.resend(merchant_id, delivery_id, "cli")) as recorder:
        end(recorder, owed, "succeeded")
    again = the(Delivery)
    assert (again.state, again.trigger) == ("pending", "manual")
    assert again.shown_state(webhook) == "succeeded"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_one_that_is_delivered_while_all_that_failed_are_sent_again_is_left_alone(
    app: Flask, merchant: Merchant
):
    owed = make_delivery(make_event(merchant), make_webhook(merchant), "failed")
    merchant_id, event_id = merchant.id, owed.event_id

    def again() -> None:
        with pytest.raises(Conflict, match="nothing was sent again"):
            actions.resend_failed(merchant_id, event_id, "cli")

    with meanwhile(app, again) as recorder:
        end(recorder, owed, "succeeded")
    assert the(Delivery).state == "succeeded"


def test_what_is_sent_again_holds_up_no_later_event_of_its_record(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url(), ordered=True)
    old = make_delivery(make_event(merchant), webhook, "succeeded", object_key="order:1")
    make_delivery(make_event(merchant), webhook, object_key="order:1")
    actions.resend(merchant.id, old.id, "cli")
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 2


def test_one_that_waits_is_sent_now_and_keeps_its_schedule(merchant: Merchant, receiver: Receiver):
    owed = make_delivery(
        make_event(merchant),
        make_webhook(merchant, receiver.url()),
        step=2,
        is_retry=True,
        next_attempt_at=now() + HOUR,
    )
    receiver.always = 500
    actions.resend(merchant.id, owed.id, "cli")
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 1
    again = the(Delivery)
    assert (again.state, again.step) == ("pending", 2), "none of its retries is used up"
    assert now() + 4 * MINUTE < again.next_attempt_at < now() + 6 * MINUTE, "its wait begins anew"


@on_both_databases
@pytest.mark.parametrize("schedule", [[0, 3_600], [0]])
def test_one_whose_attempt_is_under_way_is_sent_again_when_that_has_failed(
    app: Flask, merchant: Merchant, receiver: Receiver, schedule: list[int]
):
    webhook = make_webhook(merchant, receiver.url(), retry_schedule=schedule)
    owed = make_delivery(make_event(merchant), webhook)
    merchant_id, delivery_id = merchant.id, owed.id
    receiver.always, receiver.delay = 500, 1.0
    db.session.rollback()

    def send() -> None:
        with app.app_context():
            drain.drain(0, paces=PACES)

    sender = threading.Thread(target=send)
    sender.start()
    deadline = time.monotonic() + 10
    while not receiver.ledger:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    actions.resend(merchant_id, delivery_id, "cli")
    sender.join(20)
    made = db.session.execute(sa.select(Attempt.number, Attempt.trigger).order_by(Attempt.id)).all()
    assert [tuple(one) for one in made] == [(1, "scheduled"), (2, "manual")]
    assert the(Delivery).state == ("failed" if schedule == [0] else "pending")
    assert (the(Delivery).next_attempt_at is None) == (schedule == [0])


def test_another_merchants_delivery_does_not_exist(merchant: Merchant):
    owed = make_delivery(make_event(merchant), make_webhook(merchant))
    with pytest.raises(NotFound):
        actions.resend(make_merchant("bob").id, owed.id, "cli")


def test_what_cannot_be_sent_again_says_why(merchant: Merchant):
    disabled = make_webhook(merchant)
    disabled.disable("Too loud.")
    owed = make_delivery(make_event(merchant), disabled, "failed")
    with pytest.raises(Conflict, match="enable"):
        actions.resend(merchant.id, owed.id, "cli")
    old = make_delivery(make_event(merchant), make_webhook(merchant), "failed")
    db.session.execute(sa.delete(EventPayload))
    db.session.commit()
    with pytest.raises(Conflict, match="past its days"):
        actions.resend(merchant.id, old.id, "cli")


def test_a_test_event_is_sent_at_once_and_logged_as_one(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(merchant, receiver.url(), events=["order.*"])
    other = make_webhook(merchant, receiver.url("/other"))
    attempt = actions.send_test(
        webhook.merchant_id, webhook.id, "order.paid", "user:ann@example.com"
    )
    assert (attempt.status, attempt.trigger, attempt.ok) == (200, "test", True)
    assert [request.path for request in receiver.ledger] == ["/hook"]
    assert the(Event).is_test
    assert the(Delivery).webhook_id == webhook.id != other.id


def test_a_test_that_fails_says_why_and_is_not_retried(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(merchant, f"http://127.0.0.2:{receiver.port}/")
    attempt = actions.send_test(webhook.merchant_id, webhook.id, "order.paid", "cli")
    assert attempt.error == "egress_refused"
    assert the(Delivery).state == "failed"


def test_a_test_of_an_unknown_type_is_refused(app: Flask, merchant: Merchant):
    with pytest.raises(Invalid):
        actions.send_test(merchant.id, make_webhook(merchant).id, "order.nope", "cli")
