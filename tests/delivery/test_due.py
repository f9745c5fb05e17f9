"""What is owed is read in bounded steps: each looks at so many rows, however few of them fit."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from portal.clock import HOUR, MINUTE, SECOND, now
from portal.db.session import db
from portal.delivery import drain, due, health
from portal.delivery.due import START
from portal.delivery.lines import Lines
from portal.delivery.paces import Paces
from portal.models import Delivery, Event, EventPayload, Merchant, Webhook
from portal.outbound import outcome
from portal.outbound.outcome import OWN_ERRORS
from tests.conftest import on_both_databases
from tests.factories import make_attempt, make_delivery, make_event, make_webhook
from tests.receiver import Receiver
from tests.upkeep.test_plans import noted, plan, prefer_indexes, scans
from tests.working import work

PACES = Paces(linger_seconds=1.0)

pytestmark = on_both_databases
__all__ = ["prefer_indexes"]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "LOOKED", 20)
    monkeypatch.setattr(health, "FIRST_PAUSE", SECOND // 5)
    monkeypatch.setattr(health, "LONGEST_PAUSE", SECOND // 5)


def waits(webhook: Webhook, merchant: Merchant, status: int, number: int) -> Delivery:
    row = make_delivery(
        make_event(merchant),
        webhook,
        step=2,
        attempts=2,
        is_retry=True,
        next_attempt_at=now() + HOUR + number,
    )
    make_attempt(row, status, attempted_at=now() - MINUTE)
    return row


def behind_many(webhook: Webhook, merchant: Merchant) -> Delivery:
    """One that may hurry, behind many that were refused and may not."""
    for number in range(90):
        waits(webhook, merchant, 422, number)
    return waits(webhook, merchant, 503, 90)


def test_one_that_may_hurry_is_found_in_steps_behind_many_that_may_not(merchant: Merchant):
    webhook = make_webhook(merchant)
    wanted = behind_many(webhook, merchant)
    cursor: due.Cursor | None = START
    sizes, found = [], []
    while cursor is not None:
        rows, cursor = due.waiting(
            webhook.id, moment=now(), tried_before=now(), after=cursor, count=50, ordered=False
        )
        sizes.append(len(rows))
        found += [one.id for one in rows]
    assert found == [wanted.id]
    assert sizes == [0, 0, 0, 0, 1]


ERRORS = sorted(
    OWN_ERRORS
    | outcome._NO_CONNECTION
    | {
        "timeout",
        "connection_lost",
        "tls_failed",
        "response_too_large",
        outcome.TOKEN_AWAY,
        "new_one",
    }
)


def test_what_may_hurry_is_what_an_outcome_calls_away(merchant: Merchant):
    webhook, event = make_webhook(merchant), make_event(merchant)
    expected = set()
    cases = [(status, None) for status in (200, 204, 301, 308, *range(400, 600))]
    for number, (status, error) in enumerate([*cases, *((None, error) for error in ERRORS)]):
        row = make_delivery(
            event, webhook, step=2, attempts=2, is_retry=True, next_attempt_at=now() + HOUR + number
        )
        make_attempt(row, status, error=error, attempted_at=now() - MINUTE)
        if outcome.of(status, error).is_away:
            expected.add(row.id)
    cursor: due.Cursor | None = START
    found: set[str] = set()
    while cursor is not None:
        rows, cursor = due.waiting(
            webhook.id, moment=now(), tried_before=now(), after=cursor, count=500, ordered=False
        )
        found |= {one.id for one in rows}
    assert found == expected
    assert len(found) > 100


def test_it_goes_out_when_a_hold_ends(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(merchant, receiver.url(), catch_up_from=now())
    wanted = behind_many(webhook, merchant)
    drain.drain(0, paces=PACES)
    assert receiver.ids() == [wanted.event_id]
    db.session.rollback()
    assert db.session.get_one(Webhook, webhook.id).catch_up_from is None


def test_a_held_webhook_is_probed_with_it(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(
        merchant,
        receiver.url(),
        failures=30,
        away=30,
        failing_since=now() - HOUR,
        held_at=now() - HOUR,
        next_probe_at=now(),
    )
    wanted = behind_many(webhook, merchant)
    drain.drain(0, paces=PACES)
    assert receiver.ids() == [wanted.event_id]


def test_in_order_what_waits_for_its_record_is_passed_in_steps(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url(), ordered=True)
    blocked = make_delivery(
        make_event(merchant),
        webhook,
        object_key="order:1",
        next_attempt_at=now() + HOUR,
        is_retry=True,
        step=1,
    )
    for _ in range(90):
        make_delivery(make_event(merchant), webhook, object_key="order:1")
    others = [make_delivery(make_event(merchant), webhook, object_key="order:2") for _ in range(3)]
    for _ in range(5):
        drain.drain(0, paces=PACES)
    assert receiver.ids() == [one.event_id for one in others]
    db.session.rollback()
    assert db.session.get_one(Delivery, blocked.id).state == "pending"


def many_events(merchant: Merchant) -> None:
    """So many with their records that no planner would rather read all than look some up."""
    moment = now()
    ids = [f"evt_{number:032x}" for number in range(5_000)]
    db.session.execute(
        sa.insert(Event),
        [
            {
                "merchant_id": merchant.id,
                "id": one,
                "type": "order.created",
                "object_type": "order",
                "object_id": "1",
                "occurred_at": moment,
                "received_at": moment,
            }
            for one in ids
        ],
    )
    db.session.execute(
        sa.insert(EventPayload),
        [
            {"merchant_id": merchant.id, "event_id": one, "head": "{}", "received_at": moment}
            for one in ids
        ],
    )


def test_what_waits_behind_its_record_is_looked_through_with_pauses(
    merchant: Merchant, monkeypatch
):
    webhook = make_webhook(merchant, ordered=True)
    make_delivery(
        make_event(merchant),
        webhook,
        object_key="order:1",
        is_retry=True,
        next_attempt_at=now() + HOUR,
    )
    for _ in range(60):
        make_delivery(make_event(merchant), webhook, object_key="order:1")
    read = due.read
    reads = 0

    def slowly(*args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        work(0.01)
        return read(*args, **kwargs)

    monkeypatch.setattr(due, "read", slowly)
    ahead = Lines()
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        # As at each call for its lane, which has it start over.
        ahead.read([0], None)
        time.sleep(0.001)
    # Without pauses there are fifty, on a machine that does nothing else.
    assert 2 <= reads <= 25
    for waiting in db.session.scalars(sa.select(Delivery).where(Delivery.is_retry)):
        waiting.next_attempt_at = now()
    db.session.commit()
    line = ahead.get(webhook.id)
    assert line is not None
    while not line.buffer:
        assert time.monotonic() < end + 60
        ahead.read([0], None)


@pytest.mark.usefixtures("prefer_indexes")
@pytest.mark.parametrize("ordered", [False, True])
def test_every_read_is_by_an_index_and_bounded(merchant: Merchant, ordered: bool):
    webhook = make_webhook(merchant)
    behind_many(webhook, merchant)
    for _ in range(30):
        make_delivery(make_event(merchant), webhook, object_key="order:1")
    many_events(merchant)
    # Else PostgreSQL plans for what was in the tables when it last looked.
    db.session.execute(sa.text("ANALYZE"))
    db.session.commit()
    moment = now() + SECOND
    with noted("SELECT") as statements:
        for is_retry in (False, True):
            due.read(
                webhook.id, is_retry=is_retry, moment=moment, after=START, count=5, ordered=ordered
            )
        due.waiting(
            webhook.id, moment=moment, tried_before=moment, after=START, count=5, ordered=ordered
        )
        for whatever in (False, True):
            due.waiting_candidates(
                webhook.id, moment, after=START, ordered=ordered, whatever=whatever
            )
        due.candidates(webhook.id, moment, ordered=ordered, dice=0.5)
    for statement, parameters in statements:
        steps = plan(statement, parameters)
        # What was looked at, and is no more than that, may be gone through.
        assert not [step for step in scans(steps) if "looked" not in step], statement
    db.session.rollback()
    assert db.session.scalar(sa.select(sa.func.count(Delivery.id))) == 121
