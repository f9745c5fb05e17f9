"""What people do with deliveries: again, all again, none, and a try."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import HOUR, MINUTE, now
from portal.delivery import actions, drain
from portal.errors import Conflict, Invalid, NotFound
from portal.extensions import db
from portal.models import Attempt, AuditEntry, Delivery, Event, EventPayload, Merchant
from tests.factories import make_delivery, make_event, make_merchant, make_webhook
from tests.receiver import Receiver


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "LINGER_SECONDS", 0.7)


def the(model: Any) -> Any:
    db.session.rollback()
    (row,) = db.session.scalars(sa.select(model)).all()
    return row


@pytest.mark.parametrize("state", ["succeeded", "failed", "discarded"])
def test_a_finished_delivery_is_sent_once_more(
    merchant: Merchant, receiver: Receiver, state: str
):
    owed = make_delivery(make_event(merchant), make_webhook(merchant, receiver.url()), state)
    receiver.always = 500
    actions.resend(merchant.id, owed.id, "user:ann@example.com")
    drain.drain(0)
    assert len(receiver.ledger) == 1
    attempt = the(Attempt)
    assert (attempt.trigger, attempt.number) == ("manual", 2)
    assert the(Delivery).state == "failed"
    assert the(AuditEntry).action == "delivery.resent"


def test_one_that_waits_is_sent_now_and_keeps_its_schedule(
    merchant: Merchant, receiver: Receiver
):
    owed = make_delivery(
        make_event(merchant), make_webhook(merchant, receiver.url()), step=2, is_retry=True,
        next_attempt_at=now() + HOUR,
    )
    receiver.always = 500
    actions.resend(merchant.id, owed.id, "cli")
    drain.drain(0)
    assert len(receiver.ledger) == 1
    again = the(Delivery)
    assert (again.state, again.step) == ("pending", 3)
    assert again.next_attempt_at > now() + 25 * MINUTE, "the schedule goes on after 30 minutes"


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
    attempt = actions.send_test(webhook, "order.paid", "user:ann@example.com")
    assert (attempt.status, attempt.trigger, attempt.ok) == (200, "test", True)
    assert [request.path for request in receiver.ledger] == ["/hook"]
    assert the(Event).is_test
    assert the(Delivery).webhook_id == webhook.id != other.id


def test_a_test_that_fails_says_why_and_is_not_retried(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(merchant, f"http://127.0.0.2:{receiver.port}/")
    attempt = actions.send_test(webhook, "order.paid", "cli")
    assert attempt.error == "egress_refused"
    assert the(Delivery).state == "failed"


def test_a_test_of_an_unknown_type_is_refused(app: Flask, merchant: Merchant):
    with pytest.raises(Invalid):
        actions.send_test(make_webhook(merchant), "order.nope", "cli")
