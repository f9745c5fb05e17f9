"""Recover: what failed or is held is sent again, or discarded, once each and to the last one."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, current_app
from redis import Redis

from portal import jobs, queues
from portal.clock import HOUR, SECOND, now
from portal.counts import overview
from portal.db.session import db, writing
from portal.delivery import drain
from portal.errors import Conflict, Invalid, NotFound
from portal.models import AuditEntry, Delivery, EventPayload, Merchant, Recovery, Webhook
from portal.notices import notices
from portal.recovery import batches, recovery, selection
from portal.recovery.selection import Selection
from tests.conftest import on_both_databases
from tests.factories import (
    make_attempt,
    make_deliveries,
    make_delivery,
    make_event,
    make_merchant,
    make_webhook,
)
from tests.receiver import Receiver

pytestmark = [pytest.mark.engine, on_both_databases]

Start = Callable[..., subprocess.Popen[bytes]]
Wait = Callable[..., None]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "2", "SWEEP_SECONDS": "1"}


def send(state: str = "failed", webhook: Webhook | None = None, **fields: Any) -> Selection:
    return Selection("send", (state,), webhook.id if webhook else None, **fields)


def discard(webhook: Webhook | None = None, **fields: Any) -> Selection:
    return Selection("discard", ("held",), webhook.id if webhook else None, **fields)


def start(merchant: Merchant, wanted: Selection) -> Recovery:
    return recovery.start(merchant.id, wanted, "cli")[0]


def failed(merchant: Merchant, webhook: Webhook, hours: float = 1, **fields: Any) -> Delivery:
    moment = now() - round(hours * HOUR)
    event = make_event(merchant, received_at=moment, type=fields.pop("type", "order.created"))
    return make_delivery(event, webhook, "failed", finished_at=moment, **fields)


def states() -> dict[str, int]:
    db.session.rollback()
    return dict(
        db.session.execute(
            sa.select(Delivery.state, sa.func.count()).group_by(Delivery.state)
        ).all()  # type: ignore[arg-type]
    )


def work_off(merchant: Merchant, recovery_id: str) -> Recovery:
    """Run its jobs as the worker would, one after another."""
    while True:
        row = recovery.find(merchant.id, recovery_id)
        if not row.is_open:
            return row
        jobs.recover(row.id, row.token)


def test_what_failed_since_a_moment_is_sent_again(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(merchant, receiver.url(), max_in_flight=1)
    sent = [failed(merchant, webhook, hours).event_id for hours in (2, 1)]
    failed(merchant, webhook, 30)
    make_delivery(make_event(merchant), webhook, "succeeded")
    done = start(merchant, send(webhook=webhook, since=now() - 24 * HOUR))
    assert (done.state, done.total, done.done) == ("finished", 2, 2)
    drain.drain(webhook.lane)
    assert receiver.ids() == sent, "what failed first is sent first"
    assert states() == {"failed": 1, "succeeded": 3}


def test_what_failed_at_last_counts_by_then_and_not_by_when_it_came(merchant: Merchant):
    webhook = make_webhook(merchant)
    event = make_event(merchant, received_at=now() - 80 * HOUR)
    make_delivery(event, webhook, "failed", finished_at=now() - HOUR)
    assert start(merchant, send(since=now() - 2 * HOUR)).done == 1


def test_a_merchants_webhooks_recover_together_but_not_the_disabled(merchant: Merchant, app: Flask):
    first, second, off = (make_webhook(merchant) for _ in range(3))
    other = make_merchant("bob")
    theirs = failed(other, make_webhook(other))
    for webhook in (first, second, second, off):
        failed(merchant, webhook)
    off.disable("Too loud.")
    db.session.commit()
    assert start(merchant, send()).done == 3
    db.session.rollback()
    assert db.session.get_one(Delivery, theirs.id).state == "failed"
    assert states() == {"failed": 2, "pending": 3}


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 4),
        ({"type": "order.*"}, 3),
        ({"type": "order.paid"}, 1),
        ({"type": "*"}, 4),
        ({"status": "502"}, 1),
        ({"status": "5xx"}, 2),
        ({"status": "none"}, 1),
        ({"error": "connect_timeout"}, 1),
        ({"status": "5xx", "type": "order.paid"}, 0),
    ],
)
def test_filters_narrow_what_is_taken(merchant: Merchant, filters: dict[str, str], count: int):
    webhook = make_webhook(merchant)
    again = failed(merchant, webhook)
    make_attempt(again, 404)
    make_attempt(again, 502)
    make_attempt(failed(merchant, webhook), 500)
    make_attempt(failed(merchant, webhook, type="order.paid"), None, error="connect_timeout")
    make_attempt(failed(merchant, webhook, type="customer.created"), 410)
    wanted = send(filters=filters)
    assert selection.count(merchant.id, wanted) == selection.Count(count, is_exact=True)
    assert start(merchant, wanted).done == count
    assert states().get("pending", 0) == count


def test_what_cannot_be_sent_is_neither_counted_nor_touched(merchant: Merchant):
    webhook = make_webhook(merchant)
    expired = failed(merchant, webhook)
    db.session.execute(sa.delete(EventPayload).where(EventPayload.event_id == expired.event_id))
    db.session.commit()
    failed(merchant, webhook, trigger="test")
    assert selection.count(merchant.id, send()).number == 0
    done = start(merchant, send())
    assert (done.state, done.done) == ("finished", 0)
    assert states() == {"failed": 2}


def test_what_is_held_goes_out_at_once_and_waits_for_no_retry(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url(), held_at=now(), failures=30)
    for later in (0, 0, 5):
        make_delivery(
            make_event(merchant),
            webhook,
            is_retry=later > 0,
            step=min(later, 1),
            next_attempt_at=now() + later * HOUR,
        )
    with writing() as session:
        notices.notify(
            session, merchant.id, webhook.id, "held", "Held.", now(), current_app.config["PORTAL"]
        )
    assert recovery.count_held(webhook) == selection.Count(3, is_exact=True)
    done = start(merchant, send("held", webhook))
    assert (done.state, done.total, done.done) == ("finished", 3, 3)
    db.session.rollback()
    assert webhook.state == "enabled"
    assert overview.open_notices(merchant.id) == [], "what was told of its failures is over"
    drain.drain(webhook.lane)
    assert states() == {"succeeded": 3}
    assert len(receiver.ledger) == 3


def test_held_ones_are_sent_by_webhook_and_discarded_by_any_filter(merchant: Merchant):
    with pytest.raises(Invalid, match="leave type"):
        send("held", filters={"type": "order.*"})
    with pytest.raises(Invalid, match="discarded"):
        Selection("discard", ("failed",))
    webhook = make_webhook(merchant, held_at=now())
    for kind in ("order.created", "order.paid", "cart.updated"):
        make_delivery(make_event(merchant, type=kind), webhook)
    make_delivery(make_event(merchant, received_at=now() - 30 * HOUR), webhook, is_retry=True)
    done = start(merchant, discard(filters={"type": "order.*"}, since=now() - 24 * HOUR))
    assert done.done == 2
    assert states() == {"discarded": 2, "pending": 2}
    assert start(merchant, discard(webhook)).done == 2
    assert states() == {"discarded": 4}


def test_a_webhook_that_cannot_is_refused(merchant: Merchant):
    webhook, off = make_webhook(merchant), make_webhook(merchant, enabled=False)
    with pytest.raises(Conflict, match="enable it first"):
        start(merchant, send(webhook=off))
    with pytest.raises(Conflict, match="nothing of it is held"):
        start(merchant, discard(webhook))
    with pytest.raises(NotFound):
        start(make_merchant("bob"), send(webhook=webhook))


def test_many_are_capped_first_and_counted_to_the_end_by_the_job(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    webhook = make_webhook(merchant)
    make_deliveries(merchant, webhook, 1_700)
    begun, count = recovery.start(merchant.id, send(), "cli")
    assert count == selection.Count(1_000, is_exact=False)
    assert (begun.state, begun.total, begun.done) == ("running", None, 0)
    assert states() == {"failed": 1_700}
    monkeypatch.setattr(batches, "RUN_SECONDS", 0.0)
    jobs.recover(begun.id, begun.token)
    row = recovery.find(merchant.id, begun.id)
    assert (row.state, row.total, row.done) == ("running", 1_700, batches.BATCH)
    assert jobs.recover(begun.id, begun.token - 1) == 0, "an old run changes nothing"
    row = work_off(merchant, begun.id)
    assert (row.state, row.done) == ("finished", 1_700)
    assert states() == {"pending": 1_700}


def test_what_fails_again_meanwhile_is_not_sent_a_second_time(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    webhook = make_webhook(merchant)
    make_deliveries(merchant, webhook, 1_200)
    monkeypatch.setattr(batches, "RUN_SECONDS", 0.0)
    begun = start(merchant, send())
    jobs.recover(begun.id, begun.token)
    db.session.execute(
        sa.update(Delivery)
        .where(Delivery.state == "pending")
        .values(state="failed", finished_at=now())
    )
    db.session.commit()
    assert work_off(merchant, begun.id).done == 1_200
    assert states() == {"failed": batches.BATCH, "pending": 1_200 - batches.BATCH}


def test_it_is_paused_resumed_and_cancelled(merchant: Merchant, monkeypatch: pytest.MonkeyPatch):
    webhook = make_webhook(merchant)
    make_deliveries(merchant, webhook, 2_200)
    monkeypatch.setattr(batches, "RUN_SECONDS", 0.0)
    begun = start(merchant, send())
    jobs.recover(begun.id, begun.token)
    paused = recovery.pause(merchant.id, begun.id, "user:ann@example.com")
    assert paused.state == "paused"
    assert jobs.recover(begun.id, paused.token) == 0
    assert batches.sweep() == 0
    resumed = recovery.resume(merchant.id, begun.id, "user:ann@example.com")
    assert queues.waits_for_recovery(begun.id, resumed.token)
    assert jobs.recover(begun.id, resumed.token) == batches.BATCH
    cancelled = recovery.cancel(merchant.id, begun.id, "user:ann@example.com")
    assert (cancelled.state, cancelled.done) == ("cancelled", 2 * batches.BATCH)
    assert jobs.recover(begun.id, cancelled.token) == 0
    assert states() == {"failed": 2_200 - 2 * batches.BATCH, "pending": 2 * batches.BATCH}
    for change in (recovery.pause, recovery.resume, recovery.cancel):
        with pytest.raises(Conflict, match="cancelled"):
            change(merchant.id, begun.id, "cli")
        with pytest.raises(NotFound):
            change(merchant.id + 1, begun.id, "cli")
    noted = db.session.scalars(sa.select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert noted == [
        "recovery.started",
        "recovery.paused",
        "recovery.resumed",
        "recovery.cancelled",
    ]


def test_a_webhook_that_is_disabled_meanwhile_keeps_the_rest(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    webhook = make_webhook(merchant)
    make_deliveries(merchant, webhook, 1_200)
    monkeypatch.setattr(batches, "RUN_SECONDS", 0.0)
    begun = start(merchant, send())
    jobs.recover(begun.id, begun.token)
    db.session.get_one(Webhook, webhook.id).disable("Too loud.")
    db.session.commit()
    row = work_off(merchant, begun.id)
    assert (row.state, row.total, row.done) == ("finished", 1_200, batches.BATCH)


def test_the_same_asked_twice_is_one(merchant: Merchant):
    webhook = make_webhook(merchant)
    make_deliveries(merchant, webhook, 1_200)
    first = start(merchant, send(since=now() - 24 * HOUR))
    assert start(merchant, send(since=now() - 24 * HOUR)).id == first.id
    assert start(merchant, send(since=now() - 5 * HOUR)).id != first.id


def test_a_merchant_has_so_many_at_once(merchant: Merchant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recovery, "MAX_OPEN", 1)
    make_deliveries(merchant, make_webhook(merchant), 1_200)
    start(merchant, send())
    with pytest.raises(Conflict, match="cancel one"):
        start(merchant, send(since=now() - 5 * HOUR))


def test_all_that_a_merchant_has_running_has_the_time_of_one(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    make_deliveries(merchant, make_webhook(merchant), 1_200)
    given: list[float] = []
    monkeypatch.setattr(
        batches, "work", lambda _id, _token, seconds, **_: given.append(seconds) or 0
    )
    begun = [start(merchant, send(since=now() - hours * HOUR)) for hours in (5, 6, 7, 8)]
    given.clear()
    for one in begun:
        jobs.recover(one.id, one.token)
    assert given == [batches.RUN_SECONDS / 4] * 4
    recovery.cancel(merchant.id, begun[0].id, "cli")
    assert jobs.recover(begun[0].id, begun[0].token) == 0
    jobs.recover(begun[1].id, begun[1].token)
    assert given[4:] == [batches.RUN_SECONDS / 3]


def test_one_without_a_sign_of_life_is_queued_again_once(merchant: Merchant, valkey: str):
    make_deliveries(merchant, make_webhook(merchant), 1_200)
    begun = start(merchant, send())
    token = begun.token
    silent = {"worked_at": now() - batches.STALE - SECOND}
    db.session.execute(sa.update(Recovery).values(silent))
    db.session.commit()
    assert batches.sweep() == 0, "its job waits in the queue"
    Redis.from_url(valkey).flushall()
    assert batches.sweep() == 1
    assert batches.sweep() == 0
    row = recovery.find(merchant.id, begun.id)
    assert row.token == token + 1
    assert queues.waits_for_recovery(row.id, row.token)


@pytest.mark.whole
def test_a_worker_killed_in_the_middle_loses_nothing_and_sends_nothing_twice(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    processes: Start,
    wait_for: Wait,
    monkeypatch: pytest.MonkeyPatch,
):
    count = 6_000
    webhook = make_webhook(merchant, receiver.url())
    make_deliveries(merchant, webhook, count)
    begun = start(merchant, send())

    def done() -> int:
        db.session.rollback()
        return recovery.find(merchant.id, begun.id).done

    worker = processes("worker.py", "--part", "maintenance")
    wait_for(lambda: done() > 0)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    reached = done()
    assert 0 < reached < count
    assert states() == {"failed": count - reached, "pending": reached}

    processes("worker.py", "--part", "maintenance")
    processes("worker.py", "--part", "deliver")
    monkeypatch.setattr(batches, "STALE", 0)
    assert batches.sweep() == 1
    wait_for(lambda: done() == count, 60)
    wait_for(lambda: states() == {"succeeded": count}, 60)
    assert len(receiver.ledger) == len(set(receiver.ids())) == count
