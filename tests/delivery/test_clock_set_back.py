"""A machine's clock is set back by an hour: what is stored is of a moment that has yet to come."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import DAY, HOUR, MINUTE, SECOND, now
from portal.db.session import db
from portal.delivery import drain, health, lanes
from portal.delivery.due import DueDelivery
from portal.delivery.health import Health
from portal.delivery.line import Line
from portal.delivery.paces import Paces
from portal.models import Delivery, Merchant, Webhook
from portal.outbound import access_tokens
from portal.outbound.access_tokens import Client
from portal.outbound.outcome import Outcome
from portal.outbound.response import Response
from portal.upkeep import certificates
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_webhook
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.5)


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@on_both_databases
@pytest.mark.parametrize(
    ("held_for", "pause"), [(0, 30 * SECOND), (2 * HOUR, 30 * SECOND), (2 * HOUR, 30 * MINUTE)]
)
def test_a_held_webhook_is_probed_all_the_same(
    merchant: Merchant, receiver: Receiver, held_for: int, pause: int
):
    before = now() + HOUR
    webhook = make_webhook(
        merchant,
        receiver.url(),
        held_at=before - held_for,
        next_probe_at=before + pause,
        failures=20,
        away=20,
        failing_since=before - held_for,
    )
    make_delivery(make_event(merchant), webhook)
    assert lanes.forgotten() == [0]
    assert drain.drain(0, paces=PACES) == 1
    db.session.rollback()
    assert db.session.scalars(sa.select(Delivery.state)).one() == "succeeded"
    assert db.session.scalars(sa.select(Webhook.held_at)).one() is None


@on_both_databases
def test_one_that_was_asked_for_patience_is_left_alone(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(
        merchant,
        receiver.url(),
        held_at=now() - MINUTE,
        next_probe_at=now() + 29 * MINUTE,
        failures=20,
        away=20,
        failing_since=now() - HOUR,
    )
    make_delivery(make_event(merchant), webhook)
    assert lanes.forgotten() == []
    assert drain.drain(0, paces=PACES) == 0
    assert receiver.ledger == []


def test_a_probe_that_fails_is_followed_by_a_pause(app: Flask):
    moment = now()
    held = Health(
        failures=20,
        away=20,
        failing_since=moment,
        held_at=moment + HOUR,
        next_probe_at=moment + HOUR,
    )
    after = health.after_attempt(held, Outcome.BUSY, moment - SECOND, moment, app.config["PORTAL"])
    assert moment < (after.next_probe_at or 0) <= moment + MINUTE


def test_the_cap_of_a_receiver_in_trouble_is_halved():
    line = Line()
    line.throttle.set_limits(32, None)
    before = now() + HOUR
    line.throttle.slow_down(before - SECOND, before)
    for cap in (8.0, 4.0):
        one = DueDelivery("dlv_1", 1, "evt_1", "wh_1", 0, 0, "scheduled", "a.b", None)
        line.start(one)
        line.end(one, now(), Outcome.BUSY, True, 0.0)
        assert line.throttle.cap == cap


def test_an_access_token_from_later_is_not_used_and_can_be_forgotten(app: Flask):
    client = Client("https://a.example/", "id", "secret")
    later = now() + HOUR
    answer = Response(200, body=b'{"access_token": "abc", "expires_in": 7200}')
    assert access_tokens.read_token(client, answer, later) == "abc"
    assert access_tokens.known(client, later) == "abc"
    assert access_tokens.known(client, now()) is None
    access_tokens.forget(client, now())
    assert access_tokens.known(client, later) is None


def test_a_certificate_that_was_looked_at_later_than_now_is_looked_at(merchant: Merchant):
    ahead, today = (
        make_webhook(merchant, f"https://{at}.example/", certificate_checked_at=moment)
        for at, moment in (("ahead", now() + DAY), ("today", now() - HOUR))
    )
    targets, _ = certificates.to_look_at()
    assert targets == {"https://ahead.example/": [ahead.id]}
    assert today.id
