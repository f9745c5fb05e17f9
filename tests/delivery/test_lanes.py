"""Lanes in the database: who owns one, and what the sweep finds."""

from __future__ import annotations

import collections
import time
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from rq.utils import now as rq_now

from portal import jobs, queues
from portal.clock import HOUR, now
from portal.db.session import db, writing
from portal.delivery import drain, handover, lanes
from portal.delivery.lines import Lines
from portal.delivery.paces import Paces
from portal.events import ingest
from portal.ids import new_id
from portal.models import Attempt, Delivery, Lane, Merchant
from portal.run.scheduling import PortalCronJob
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_webhook
from tests.receiver import Receiver
from tests.upkeep.test_plans import forget_statistics

PACES = Paces(linger_seconds=0.5)


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "2"}


@on_both_databases
def test_a_lane_has_one_owner_at_a_time(app: Flask):
    token = lanes.lease(0, "east")
    assert token is not None
    assert lanes.lease(0, "west") is None
    lanes.release({0: token})
    assert lanes.lease(0, "west") == token + 2


@on_both_databases
def test_a_lane_that_was_given_back_is_not_leased_again_by_what_was_under_way(app: Flask):
    token = lanes.lease(0, "east")
    assert token is not None
    lanes.release({0: token})
    with pytest.raises(lanes.LeaseLost), writing():
        lanes.renew({0: token})
    assert lanes.lease(0, "west") is not None


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_nobody_waits_for_a_lane_that_a_dead_machine_has_locked(app: Flask):
    with db.engine.connect() as connection:
        connection.execute(sa.text("UPDATE lane SET token = token"))
        started = time.monotonic()
        assert lanes.lease(0, "west") is None
        assert time.monotonic() - started < 5
    assert lanes.lease(0, "west") is not None


@on_both_databases
def test_what_comes_back_for_a_lane_that_was_lost_is_not_recorded(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
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
                    sa.text(
                        "UPDATE lane SET token = token + 1, leased_until = :until WHERE id = 1"
                    ),
                    {"until": now() + lanes.LEASE},
                )
        return False

    taken: list[int] = []
    drain.drain(0, paces=replace(PACES, heartbeat_seconds=0.1), should_stop=lose)
    assert taken
    assert db.session.scalars(sa.select(Attempt.webhook_id)).all() == [ids[0]]
    rows = db.session.execute(sa.select(Delivery.webhook_id, Delivery.state))
    states = dict(rows.all())
    assert states == {ids[0]: "succeeded", ids[1]: "pending"}


@on_both_databases
def test_a_worker_with_nothing_to_do_gets_a_lane_of_one_that_has_too_much(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    for lane in (0, 1):
        make_webhook(merchant, receiver.url()).lane = lane
    db.session.commit()
    order = {"type": "order.created", "object_id": "1"}
    ingest.ingest_events(merchant.id, [order] * 400, batch=True)
    queues.client().flushdb()
    receiver.delay = 0.02

    def owners() -> list[str | None]:
        db.session.rollback()
        return list(db.session.scalars(sa.select(Lane.owner).order_by(Lane.id)))

    seen: list[list[str | None]] = []

    def stop() -> bool:
        now_owned = owners()
        if not seen or seen[-1] != now_owned:
            seen.append(now_owned)
        if None not in now_owned and len(receiver.ledger) > 40:
            queues.ask_for_lane("another:1")
        return len(seen) > 1 and now_owned[1] is None

    paces = replace(PACES, offer_seconds=0.05, busy_share=0.0)
    drain.drain(0, paces=paces, should_stop=stop)
    assert [None not in owned for owned in seen] == [False, True, False], "took both, gave one"
    assert 40 < len(receiver.ledger) < 780
    assert queues.drain_job_id(1) in queues.queue_of(queues.DELIVERIES).job_ids
    receiver.delay = 0.0
    drain.drain(1, paces=PACES)
    drain.drain(0, paces=PACES)
    ids = collections.Counter(request.headers["webhook-id"] for request in receiver.ledger)
    assert len(ids) == 400
    assert set(ids.values()) == {2}, "one request for each webhook, none again"


def test_lanes_that_wait_for_their_receivers_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queues, "is_lane_asked_for", lambda: True)
    clock = [0.0]
    monkeypatch.setattr(handover, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    run = handover.Handover(0)
    for waited, leaves in ((0.9, None), (1.2, 1)):
        clock[0] += 1.0
        run.choose({0, 1}, is_idle=False, somebody_idle=True, waited_seconds=waited)
        assert run.leaving == leaves


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


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("is_known", [False, True])
def test_a_look_for_work_does_not_go_through_what_one_merchant_owes(
    merchant: Merchant, is_known: bool
):
    # A planner may know nothing of the table, as in the first minutes of an installation.
    busy, *others = (make_webhook(merchant) for _ in range(5))
    for webhook in (busy, *others):
        webhook.lane = 0
    db.session.commit()
    event = make_event(merchant)
    moment = now()
    db.session.execute(
        sa.insert(Delivery),
        [
            {
                "id": new_id("dlv"),
                "merchant_id": merchant.id,
                "event_id": event.id,
                "webhook_id": busy.id,
                "state": "pending",
                "next_attempt_at": moment,
                "created_at": moment,
                "trigger": "scheduled",
                "attempts": 0,
                "step": 0,
                "is_retry": False,
            }
            for _ in range(2_000)
        ],
    )
    make_delivery(event, others[0])
    if is_known:
        db.session.execute(sa.text("ANALYZE"))
        db.session.commit()
    else:
        forget_statistics()
    looks: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "webhook.lane" in statement and "next_attempt_at" in statement:
            looks.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    assert lanes.forgotten() == [0]
    Lines().read([0], None)
    sa.event.remove(db.engine, "before_cursor_execute", note)
    assert len(looks) >= 2
    for statement, parameters in looks:
        (plan,) = (
            db.session.connection()
            .exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            .scalars()
        )
        assert _most_rows(plan[0]["Plan"]) <= 10, statement


def _most_rows(plan: dict[str, Any]) -> float:
    here = plan["Actual Rows"] * plan["Actual Loops"]
    return max([here, *map(_most_rows, plan.get("Plans", []))])


def test_cron_goes_on_after_the_clock_was_set_back():
    job = PortalCronJob(queues.MAINTENANCE, func=jobs.sweep, interval=5)
    job.set_enqueue_time(rq_now() + timedelta(hours=1))
    assert job.should_run()
    job.set_enqueue_time(rq_now())
    assert not job.should_run()


@on_both_databases
def test_to_look_for_what_is_due_makes_no_statements(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    # It is done at each event and many times a second, and to make one takes twice as long as the
    # rest of it, in which all else that its worker sends must wait.
    webhook = make_webhook(merchant)
    make_delivery(make_event(merchant), webhook)
    made: list[Any] = []
    select = sa.select
    monkeypatch.setattr(sa, "select", lambda *columns: made.append(columns) or select(*columns))
    lines = Lines()
    lines.read([webhook.lane], None)
    assert [line.webhook_id for line in lines] == [webhook.id]
    assert lanes.forgotten() == [webhook.lane]
    assert not made
