"""Lanes in the database: who owns one, and what the sweep finds."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from rq.utils import now as rq_now

from portal import jobs, queues
from portal.clock import HOUR, now
from portal.delivery import drain, lanes
from portal.extensions import db
from portal.models import Attempt, Delivery, Merchant
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_webhook
from tests.receiver import Receiver
from worker import PortalCronJob


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "2"}


@on_both_databases
def test_a_lane_has_one_owner_at_a_time(app: Flask):
    token = lanes.lease(0, "east")
    assert token is not None
    assert lanes.lease(0, "west") is None
    lanes.release({0: token})
    assert lanes.lease(0, "west") == token + 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_nobody_waits_for_a_lane_that_a_dead_machine_has_locked(app: Flask):
    with db.engine.connect() as connection:
        connection.execute(sa.text("UPDATE lane SET token = token"))
        started = time.monotonic()
        assert lanes.lease(0, "west") is None
        assert time.monotonic() - started < 1
    assert lanes.lease(0, "west") is not None


@on_both_databases
def test_what_comes_back_for_a_lane_that_was_lost_is_not_recorded(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(drain, "LINGER_SECONDS", 0.5)
    monkeypatch.setattr(lanes, "HEARTBEAT", 100_000)
    receiver.delay = 2.0
    kept, lost = (make_webhook(merchant, receiver.url()) for _ in range(2))
    kept.lane, lost.lane = 0, 1
    for webhook in (kept, lost):
        make_delivery(make_event(merchant), webhook)
    ids = (kept.id, lost.id)

    def lose() -> bool:
        # Another worker takes lane 1, while requests of both are under way.
        if len(receiver.ledger) == 2 and not taken:
            taken.append(1)
            with db.engine.begin() as connection:
                connection.execute(
                    sa.text("UPDATE lane SET token = token + 1, leased_until = :until "
                            "WHERE id = 1"),
                    {"until": now() + lanes.LEASE},
                )
        return False

    taken: list[int] = []
    drain.drain(0, should_stop=lose)
    assert taken
    assert db.session.scalars(sa.select(Attempt.webhook_id)).all() == [ids[0]]
    rows = db.session.execute(sa.select(Delivery.webhook_id, Delivery.state))
    states = dict(rows.all())
    assert states == {ids[0]: "succeeded", ids[1]: "pending"}


@on_both_databases
def test_what_was_accepted_before_the_clock_was_set_back_is_due_now(merchant: Merchant):
    webhook = make_webhook(merchant)
    ahead = now() + HOUR
    first = make_delivery(make_event(merchant, received_at=ahead), webhook)
    later = make_delivery(make_event(merchant), webhook, next_attempt_at=ahead)
    retry = make_delivery(make_event(merchant, received_at=ahead), webhook, is_retry=True)
    names = {row.id: name for row, name in ((first, "first"), (later, "later"), (retry, "retry"))}
    assert lanes.sweep() == 1
    due = db.session.scalars(sa.select(Delivery.id).where(Delivery.next_attempt_at <= now()))
    assert [names[row] for row in due] == ["first"]


def test_cron_goes_on_after_the_clock_was_set_back():
    job = PortalCronJob(queues.MAINTENANCE, func=jobs.sweep, interval=5)
    job.set_enqueue_time(rq_now() + timedelta(hours=1))
    assert job.should_run()
    job.set_enqueue_time(rq_now())
    assert not job.should_run()
