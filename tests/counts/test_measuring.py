"""What is stored of each merchant is measured: each row once, whatever is deleted meanwhile, and
whatever dies."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import jobs, queues
from portal.api import saved_answers
from portal.clock import DAY, HOUR, MINUTE, SECOND, now
from portal.db.session import db, writing
from portal.events import repeats
from portal.ids import new_id, request_id_at
from portal.models import (
    AuditEntry,
    Delivery,
    Event,
    EventPayload,
    MeasuredUntil,
    Merchant,
    StoredBytes,
    Webhook,
)
from portal.people import accounts
from portal.storage import measuring, sizes
from portal.upkeep import retention
from portal.webhooks import setup
from tests.conftest import on_both_databases
from tests.factories import make_attempt, make_delivery, make_event, make_merchant, make_webhook

pytestmark = on_both_databases

WEBHOOK = {"url": "https://erp.example.com/hook", "events": ["order.*"]}

Sizes = dict[tuple[int, str], int]


def story(merchant: Merchant, age: int, state: str = "succeeded", data: str = "{}") -> Delivery:
    """An event of so long ago (µs) with its delivery and an attempt."""
    moment = now() - age
    event = make_event(merchant, received_at=moment, data=data)
    delivery = make_delivery(event, make_webhook(merchant), state)
    request_id = request_id_at(moment) + new_id("req")[-20:]
    make_attempt(delivery, id=request_id, attempted_at=moment, response_body=data.encode())
    return delivery


def measured() -> Sizes:
    """What is measured, by merchant and kind; nothing is left out."""
    db.session.rollback()
    rows = db.session.execute(
        sa.select(
            StoredBytes.merchant_id,
            sa.func.sum(StoredBytes.logs),
            sa.func.sum(StoredBytes.payloads),
        ).group_by(StoredBytes.merchant_id)
    )
    found = {}
    for merchant_id, logs, payloads in rows:
        found |= {(merchant_id, "logs"): int(logs), (merchant_id, "payloads"): int(payloads)}
    return {key: size for key, size in found.items() if size}


def there() -> Sizes:
    """What is in the logs, read as a whole."""
    db.session.rollback()
    found: Sizes = {}
    for part in sizes.PARTS:
        rows = db.session.execute(
            measuring.sizes(part, 0, now() + 400 * DAY, db.engine.dialect.name)
        )
        for merchant_id, size in rows:
            key = (merchant_id, part.column)
            found[key] = found.get(key, 0) + int(size)
    deleted = sizes.webhook_bytes(db.engine.dialect.name, Webhook.deleted_at.is_not(None))
    for merchant_id, size in db.session.execute(deleted):
        found[merchant_id, "logs"] = found.get((merchant_id, "logs"), 0) + int(size)
    return found


def measure_all(moment: int | None = None) -> None:
    while measuring.measure(moment):
        pass


def test_everything_is_measured_once_as_it_comes(app: Flask) -> None:
    alice, bob = make_merchant("alice"), make_merchant("bob")
    for age in (50 * DAY, 3 * DAY, 3 * DAY + 1, 10 * MINUTE):
        story(alice, age)
    story(bob, DAY, data='"€"')
    measure_all()
    assert measured() == there()
    assert set(measured()) == {
        (one.id, kind) for one in (alice, bob) for kind in ("logs", "payloads")
    }
    story(bob, 0)
    measure_all(now() + HOUR)
    measure_all(now() + HOUR)
    assert measured() == there()


def test_text_counts_by_its_bytes_and_in_each_index(merchant: Merchant) -> None:
    make_event(merchant, data='"' + "€" * 1_000 + '"', received_at=now() - HOUR)
    measure_all()
    before = measured()
    assert 3_000 < before[merchant.id, "payloads"] < 3_500
    assert 300 < before[merchant.id, "logs"] < 1_500
    make_event(merchant, object_id="o" * 250)
    measure_all(now() + HOUR)
    grown = measured()[merchant.id, "logs"] - before[merchant.id, "logs"]
    assert grown > before[merchant.id, "logs"] + 450


def test_what_has_not_settled_is_measured_later(merchant: Merchant) -> None:
    story(merchant, 0)
    measure_all()
    assert not measured()
    measure_all(now() + MINUTE)
    assert measured().keys() == {(merchant.id, "logs"), (merchant.id, "payloads")}
    assert measured() != there(), "attempts settle later"
    measure_all(now() + 5 * MINUTE)
    assert measured() == there()


def test_the_clean_up_takes_off_what_it_deletes(app: Flask) -> None:
    alice, bob = make_merchant("alice"), make_merchant("bob", event_days=5, payload_days=2)
    for merchant in (alice, bob):
        for days in (400, 61, 20, 6, 3, 1):
            story(merchant, days * DAY)
            story(merchant, days * DAY, "pending")
    measure_all()
    before = measured()
    retention.purge_expired()
    assert measured() == there()
    assert measured()[bob.id, "payloads"] < before[bob.id, "payloads"]


def test_what_is_deleted_before_it_was_measured_takes_off_nothing(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "BATCH", 1)
    for days in (70, 69, 68, 30, 29, 3):
        story(merchant, days * DAY)
    measuring.measure(seconds=0)
    assert 0 < sum(measured().values()) < sum(there().values())
    retention.purge_expired()
    measure_all()
    assert measured() == there()


def test_what_is_deleted_while_it_is_measured_is_not_added(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in (70, 30):
        story(merchant, days * DAY)
    store = measuring.store

    def after_a_clean_up(*arguments: Any) -> None:
        monkeypatch.setattr(measuring, "store", store)
        retention.purge_expired()
        store(*arguments)

    monkeypatch.setattr(measuring, "store", after_a_clean_up)
    measure_all()
    assert measured() == there()


def test_a_record_whose_event_is_gone_is_taken_off_too(merchant: Merchant) -> None:
    event_id = story(merchant, DAY).event_id
    measure_all()
    db.session.execute(sa.delete(Event))
    db.session.commit()
    repeats.forget_records(merchant.id, [event_id])
    assert db.session.scalar(sa.select(EventPayload.event_id)) is None
    assert measured()[merchant.id, "payloads"] == there()[merchant.id, "payloads"]


def test_what_is_committed_very_late_never_makes_it_less_than_nothing(merchant: Merchant) -> None:
    story(merchant, 20 * DAY)
    measure_all()
    for _ in range(5):
        story(merchant, 20 * DAY)
    retention.purge_expired()
    assert measured().get((merchant.id, "payloads"), 0) == 0
    assert all(size >= 0 for size in measured().values())


def test_days_of_which_nothing_is_left_are_forgotten(merchant: Merchant) -> None:
    story(merchant, 70 * DAY)
    story(merchant, 3 * DAY)
    measure_all()
    retention.purge_expired()
    story(merchant, 0)
    measure_all(now() + 2 * DAY)
    days = db.session.scalars(sa.select(StoredBytes.starts_at)).all()
    assert min(days) > now() - 5 * DAY
    assert measured() == there()


def test_the_audit_log_stays_and_counts_once(merchant: Merchant) -> None:
    story(merchant, 70 * DAY)
    webhook = setup.create_webhook(merchant.id, WEBHOOK, "cli")
    measure_all(now() + HOUR)
    before = measured()[merchant.id, "logs"]
    setup.update_webhook(
        webhook.merchant_id, webhook.id, {"headers": {"X-Note": "n" * 8_000}}, "cli"
    )
    accounts.create_user("staff@example.com", "a long password", "cli", "operator")
    # After what was measured, as if an hour had gone by.
    with writing() as session:
        session.execute(
            sa.update(AuditEntry)
            .where(AuditEntry.action == "webhook.updated")
            .values(at=now() + HOUR + MINUTE)
        )
    measure_all(now() + 2 * HOUR)
    assert 8_000 < measured()[merchant.id, "logs"] - before < 11_000
    assert measured() == there()
    retention.purge_expired()
    story(merchant, -3 * HOUR)
    measure_all(now() + 3 * DAY)
    # The clock was set back.
    measure_all()
    measure_all(now() + 3 * DAY)
    assert measured() == there()


@contextmanager
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing can be added to what is measured, which is found out at the end of a transaction."""
    monkeypatch.setattr(measuring, "add", lambda *_: 1 / 0)
    yield
    monkeypatch.undo()


def test_a_run_that_is_killed_changes_nothing(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    story(merchant, HOUR)
    measure_all()
    before = measured()
    story(merchant, 0)
    with broken(monkeypatch), pytest.raises(ZeroDivisionError):
        measuring.measure(now() + HOUR)
    db.session.rollback()
    assert measured() == before
    measure_all(now() + HOUR)
    assert measured() == there()


def test_runs_that_meet_add_nothing_twice(app: Flask, merchant: Merchant) -> None:
    for age in range(40):
        story(merchant, HOUR + age * SECOND)

    def measure(_number: int) -> None:
        with app.app_context():
            measure_all()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(measure, range(8)))
    assert measured() == there()


def test_after_the_clock_was_set_back_the_day_is_measured_anew(merchant: Merchant) -> None:
    story(merchant, 3 * DAY)
    story(merchant, HOUR)
    measure_all()
    story(merchant, -20 * MINUTE)
    measure_all(now() + 30 * MINUTE)
    # Back by half an hour; what is new lies before what was measured.
    story(merchant, 10 * MINUTE)
    measure_all()
    measure_all(now() + 30 * MINUTE)
    assert measured() == there()


def test_a_long_past_is_measured_in_slices_and_the_rest_is_queued(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "BATCH", 2)
    monkeypatch.setattr(measuring, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(measuring.measure, "__defaults__", (None, 0.0))
    for age in range(20):
        story(merchant, HOUR + age * SECOND)
    assert jobs.measure()
    (job,) = queues.queue_of(queues.MAINTENANCE).get_jobs()
    assert job.func_name == queues.MEASURE
    runs = 0
    while jobs.measure():
        runs += 1
    assert runs > 5
    assert measured() == there()


def test_nothing_is_written_while_nothing_comes(merchant: Merchant) -> None:
    story(merchant, HOUR)
    measure_all()
    until = sa.select(MeasuredUntil.id, MeasuredUntil.moment).order_by(MeasuredUntil.id)
    before = db.session.execute(until).all()
    measure_all(now() + DAY)
    db.session.rollback()
    assert db.session.execute(until).all() == before


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_goes_and_dies_it_is_what_is_there(
    app: Flask, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(measuring, "BATCH", 2)
    merchants = [make_merchant("alice"), make_merchant("bob", event_days=9, payload_days=4)]
    moment = now()
    for _ in range(40):
        deed = dice.random()
        if deed < 0.5:
            # As it comes in: not before what is measured.
            until = db.session.scalar(sa.select(sa.func.max(MeasuredUntil.moment))) or 0
            age = dice.choice((0, MINUTE, DAY, 5 * DAY, 20 * DAY, 80 * DAY))
            if moment - age >= until:
                story(
                    dice.choice(merchants),
                    now() - moment + age,
                    dice.choice(("succeeded", "pending")),
                    '"' + "x" * dice.randrange(300) + '"',
                )
        elif deed < 0.8:
            measuring.measure(moment - dice.choice((0, 3 * DAY, 18 * DAY)), seconds=0)
        elif deed < 0.95:
            retention.purge_expired(moment=moment + dice.choice((0, 10, 70)) * DAY)
        else:
            moment += DAY
        db.session.rollback()
    measure_all(moment + HOUR)
    assert measured() == there()


def test_the_rows_of_deleted_webhooks_count_those_of_before_too(merchant: Merchant) -> None:
    large = WEBHOOK | {"body_template": "x" * 60_000}
    before, after = (setup.create_webhook(merchant.id, large, "cli") for _ in range(2))
    setup.delete(before.merchant_id, before.id, "cli")
    # Nothing else has settled yet.
    measure_all()
    assert 60_000 < measured()[merchant.id, "logs"] < 65_000
    setup.delete(after.merchant_id, after.id, "cli")
    assert 120_000 < measured()[merchant.id, "logs"] < 130_000
    measure_all(now() + HOUR)
    assert measured() == there()


def test_answers_that_are_kept_for_a_key_count_until_they_go(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = saved_answers.SavedAnswer(200, {}, "x" * 30_000)
    for key in ("one", "two"):
        assert saved_answers.claim(merchant.id, key, "d" * 64) is None
        saved_answers.save_answer(merchant.id, key, answer)
    measure_all(now() + HOUR)
    assert measured() == there()
    assert measured()[merchant.id, "logs"] > 60_000
    later = now() + DAY + HOUR
    monkeypatch.setattr(saved_answers, "now", lambda: later)
    # The same key for another request, when its day is over.
    assert saved_answers.claim(merchant.id, "one", "e" * 64) is None
    assert measured() == there() | {(merchant.id, "logs"): measured()[merchant.id, "logs"]}
    assert 30_000 < measured()[merchant.id, "logs"] < 60_000
    retention.purge_expired(moment=later)
    assert measured().get((merchant.id, "logs"), 0) < 30_000
