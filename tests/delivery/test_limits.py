"""Each webhook within its limits, nobody at another's cost, a record's events in their order."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import now
from portal.db.session import db
from portal.delivery import drain, turns
from portal.delivery.paces import Paces
from portal.events import ingest
from portal.models import Delivery, Merchant, Webhook
from portal.processes import open_files
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_merchant, make_webhook
from tests.receiver import Receiver

PACES = Paces(linger_seconds=1.5)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1", "RETRY_SCHEDULE": "0 1 1", "HOLD_AFTER_FAILURES": "500"}


def send(merchant: Merchant, *events: dict[str, Any]) -> list[str]:
    answers = ingest.ingest_events(
        merchant.id, [{"type": "order.updated"} | event for event in events], batch=True
    )
    return [answer.id for answer in answers]


def most_at_once(receiver: Receiver) -> int:
    """How many requests were open at the same moment; each took the receiver's delay."""
    starts = sorted(request.at for request in receiver.ledger)
    return max(
        sum(start <= other < start + receiver.delay * 0.9 for other in starts) for start in starts
    )


def test_a_webhook_gets_no_more_requests_at_once_than_it_allows(
    merchant: Merchant, receiver: Receiver
):
    receiver.delay = 0.1
    make_webhook(merchant, receiver.url(), max_in_flight=3)
    send(merchant, *[{}] * 15)
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 15
    assert most_at_once(receiver) == 3


def test_where_few_files_may_be_open_fewer_requests_are_under_way_at_once(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    receiver.delay = 0.1
    monkeypatch.setattr(turns, "OTHER_FILES", open_files(turns.FILES) - 4)
    make_webhook(merchant, receiver.url())
    send(merchant, *[{}] * 15)
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 15
    assert most_at_once(receiver) == 4


def test_a_process_may_open_more_files_than_a_shell_gives_it():
    code = (
        "import resource; from portal.processes import open_files\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))\n"
        "print(open_files(4_096), hard)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 600))\n"
        "print(open_files(4_096))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    reached, hard, bounded = map(int, run.stdout.split())
    assert reached == (4_096 if hard < 0 else min(4_096, hard))
    assert bounded == 600


def test_a_webhook_gets_no_more_requests_a_second_than_it_allows(
    merchant: Merchant, receiver: Receiver
):
    make_webhook(merchant, receiver.url(), rate_per_second=20)
    send(merchant, *[{}] * 30)
    drain.drain(0, paces=PACES)
    starts = sorted(request.at for request in receiver.ledger)
    assert len(starts) == 30
    busiest = max(sum(start <= other < start + 1 for other in starts) for start in starts)
    assert busiest <= 21
    assert starts[-1] - starts[0] < 2.5, "and not much slower than that"


@on_both_databases
def test_the_events_of_a_record_arrive_in_their_order_and_a_failure_holds_only_its_record(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    make_webhook(merchant, receiver.url(), ordered=True, max_in_flight=8, retry_schedule=[0, 3_600])
    receiver.delay = 0.02
    receiver.will_answer([500])
    records = [send(merchant, *[{"object_id": str(record)}] * 4) for record in range(6)]
    drain.drain(0, paces=PACES)
    ids = receiver.ids()
    waiting = db.session.scalars(sa.select(Delivery).where(Delivery.is_retry)).one()
    held = next(record for record in records if waiting.event_id in record)
    assert held[0] == waiting.event_id
    assert not set(held[1:]) & set(ids), "later ones wait for the retry"
    for record in records:
        if record is not held:
            assert [one for one in ids if one in record] == record, "another record does not wait"
    waiting.next_attempt_at = now()
    db.session.commit()
    drain.drain(0, paces=PACES)
    assert [one for one in receiver.ids() if one in held] == [held[0], *held]


@on_both_databases
def test_a_record_whose_delivery_failed_for_good_goes_on_with_the_next(
    merchant: Merchant, receiver: Receiver
):
    make_webhook(merchant, receiver.url(), ordered=True, retry_schedule=[0])
    receiver.will_answer([500])
    ids = send(merchant, *[{"object_id": "1"}] * 3)
    drain.drain(0, paces=PACES)
    assert receiver.ids() == ids


@on_both_databases
def test_first_attempts_come_before_retries(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(merchant, receiver.url(), max_in_flight=1)
    late = make_delivery(
        make_event(merchant), webhook, is_retry=True, step=1, next_attempt_at=now() - 10_000_000
    )
    fresh = send(merchant, *[{}] * 5)
    drain.drain(0, paces=PACES)
    assert receiver.ids() == [*fresh, late.event_id]


def test_no_merchant_starves_another(app: Flask, merchant: Merchant, receiver: Receiver):
    small = Receiver()
    for _ in range(10):
        make_webhook(merchant, receiver.url(), max_in_flight=50)
    send(merchant, *[{}] * 500)
    others = [make_merchant(f"small-{number}") for number in range(10)]
    for other in others:
        make_webhook(other, small.url())
        send(other, {})
    drain.drain(0, paces=PACES)
    small.close()
    assert len(receiver.ledger) == 5_000
    assert len(small.ledger) == 10
    flood = sorted(request.at for request in receiver.ledger)
    last_of_small = max(request.at for request in small.ledger)
    before = sum(moment < last_of_small for moment in flood)
    assert before < len(flood) / 4, "fifty of the small ones do not wait for the flood to end"


def test_who_is_owed_little_goes_before_who_is_owed_much(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    # One is read and one is sent, and then others are looked after.
    paces = replace(PACES, slice_seconds=0.0)
    for number in range(10):
        make_webhook(merchant, receiver.url(f"/much/{number}"))
    other = make_merchant("other")
    make_webhook(other, receiver.url("/little"))
    send(merchant, *[{}] * 20)
    send(other, {})
    drain.drain(0, paces=paces)
    paths = [request.path for request in receiver.ledger]
    assert len(paths) == 201
    assert paths.index("/little") < 20


def test_one_merchants_receivers_that_hang_leave_requests_to_another(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(turns, "MAX_IN_FLIGHT", 10)
    receiver.delay = 2.0
    for _ in range(3):
        make_webhook(merchant, receiver.url("/slow"), max_in_flight=20)
    send(merchant, *[{}] * 20)
    other = make_merchant("other")
    make_webhook(other, receiver.url("/other"))
    send(other, {})
    began = time.monotonic()
    drain.drain(
        0,
        paces=PACES,
        should_stop=lambda: (
            any(request.path == "/other" for request in receiver.ledger)
            or time.monotonic() - began > 30
        ),
    )
    paths = [request.path for request in receiver.ledger]
    assert paths.index("/other") <= 9


def test_a_receiver_that_comes_back_is_not_knocked_over_again(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(
        merchant,
        receiver.url(),
        failures=99,
        failing_since=now(),
        held_at=now(),
        next_probe_at=now(),
    )
    for _ in range(60):
        make_delivery(make_event(merchant), webhook)
    receiver.delay = 0.05
    drain.drain(0, paces=PACES)
    starts = sorted(request.at for request in receiver.ledger)
    assert len(starts) == 60
    first_second = [start for start in starts if start < starts[0] + 0.3]
    assert len(first_second) < 20, "one at a time at first"
    assert most_at_once(receiver) > 3, "and more as it copes"


def test_a_receiver_in_trouble_is_asked_less(merchant: Merchant, receiver: Receiver):
    make_webhook(merchant, receiver.url(), retry_schedule=[0])
    receiver.delay = 0.05
    receiver.always = 503
    send(merchant, *[{}] * 60)
    started = time.monotonic()
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 60
    late = [request.at for request in receiver.ledger[30:]]
    assert time.monotonic() - started > 1.5
    assert late[-1] - late[0] > 20 * 0.05, "after the first refusals, one at a time"


def test_what_a_person_changed_holds_from_the_next_look_on(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(merchant, receiver.url(), max_in_flight=1)
    receiver.delay = 0.1
    send(merchant, *[{}] * 10)
    db.session.execute(sa.update(Webhook).values(max_in_flight=10))
    db.session.commit()
    drain.drain(0, paces=PACES)
    assert most_at_once(receiver) > 3
    assert db.session.get_one(Webhook, webhook.id).max_in_flight == 10
    states = set(db.session.scalars(sa.select(Delivery.state)))
    assert states == {"succeeded"}


@on_both_databases
def test_a_merchant_whose_receivers_hang_leaves_places_to_others(
    app: Flask, merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(turns, "MAX_IN_FLIGHT", 40)
    hanging = Receiver()
    hanging.delay = 8.0
    try:
        for number in range(3):
            make_webhook(merchant, hanging.url(f"/{number}"), max_in_flight=500)
        send(merchant, *[{}] * 30)
        other = make_merchant("other")
        late = make_delivery(
            make_event(other),
            make_webhook(other, receiver.url()),
            next_attempt_at=now() + 2_000_000,
        )
        drain.drain(0, paces=PACES)
        (arrived,) = receiver.ledger
        assert receiver.ids() == [late.event_id]
        assert arrived.at < hanging.ledger[0].at + 6, "while all that could hang did"
        assert len(hanging.ledger) == 90
        assert most_at_once(hanging) in range(28, 33), "and no more than three quarters of all"
    finally:
        hanging.close()


@on_both_databases
def test_large_records_take_more_places(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(turns, "MAX_IN_FLIGHT", 40)
    receiver.delay = 0.5
    make_webhook(merchant, receiver.url(), max_in_flight=500)
    send(merchant, *[{"data": {"text": "x" * 200_000}}] * 12)
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 12
    assert most_at_once(receiver) == 8, "four slots each, of thirty and what one more takes"


def test_a_rate_does_not_keep_a_worker_busy_while_its_receiver_takes_its_time(
    merchant: Merchant, receiver: Receiver
):
    receiver.delay = 3.0
    make_webhook(merchant, receiver.url(), rate_per_second=1_000, max_in_flight=1)
    send(merchant, {}, {})
    began = time.thread_time()
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 2
    assert time.thread_time() - began < 2, "of the six seconds that it waited"
