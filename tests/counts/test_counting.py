"""The logs are counted by the hour: each row once, whatever dies, however late it is committed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import jobs, queues
from portal.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND, now
from portal.counts import counting
from portal.db.session import db
from portal.ids import new_id, request_id_at
from portal.models import Attempt, AttemptCount, Delivery, EventCount, Merchant, Webhook
from portal.models.statistics import ALL
from portal.upkeep import retention
from tests.conftest import on_both_databases
from tests.factories import make_attempt, make_delivery, make_event, make_merchant, make_webhook

pytestmark = on_both_databases


@pytest.fixture
def webhook(merchant: Merchant) -> Webhook:
    return make_webhook(merchant)


@pytest.fixture
def delivery(merchant: Merchant, webhook: Webhook) -> Delivery:
    return make_delivery(make_event(merchant, received_at=now() - 2 * HOUR), webhook)


def tried(delivery: Delivery, moment: int, status: int = 200, **fields: Any) -> Attempt:
    """An attempt that began at a moment, with the Request ID of then."""
    request_id = request_id_at(moment) + new_id("req")[-20:]
    return make_attempt(delivery, status, id=request_id, attempted_at=moment, **fields)


def counted() -> tuple[int, int, int]:
    """Events, attempts and successes, as they are counted."""
    db.session.rollback()
    sums = sa.select(sa.func.sum(AttemptCount.attempts), sa.func.sum(AttemptCount.successes))
    attempts, successes = db.session.execute(sums.where(AttemptCount.webhook_id != ALL)).one()
    together = db.session.execute(sums.where(AttemptCount.webhook_id == ALL)).one()
    assert (attempts, successes) == tuple(together)
    events = db.session.scalar(sa.select(sa.func.sum(EventCount.events)))
    return int(events or 0), int(attempts or 0), int(successes or 0)


def test_attempts_are_counted_by_webhook_hour_and_duration(
    merchant: Merchant, webhook: Webhook, delivery: Delivery
):
    hour = now() // HOUR * HOUR - 2 * HOUR
    tried(delivery, hour + MINUTE, duration_us=41_000)
    tried(delivery, hour + HOUR - 1, duration_us=42_000)
    tried(delivery, hour + 2 * MINUTE, 503, duration_us=15 * SECOND)
    tried(delivery, hour + HOUR, duration_us=41_000)
    counting.count_new()
    rows = db.session.execute(
        sa.select(
            AttemptCount.merchant_id,
            AttemptCount.webhook_id,
            AttemptCount.starts_at,
            AttemptCount.attempts,
            AttemptCount.successes,
        )
        .where(AttemptCount.webhook_id != ALL)
        .order_by(AttemptCount.starts_at, AttemptCount.took)
    ).all()
    assert [tuple(row) for row in rows] == [
        (merchant.id, webhook.id, hour, 2, 2),
        (merchant.id, webhook.id, hour, 1, 0),
        (merchant.id, webhook.id, hour + HOUR, 1, 1),
    ]


def test_all_webhooks_of_a_merchant_are_counted_together_too(
    merchant: Merchant, delivery: Delivery
):
    hour = now() // HOUR * HOUR - HOUR
    tried(delivery, hour)
    tried(make_delivery(make_event(merchant), make_webhook(merchant)), hour)
    other = make_merchant("bob")
    tried(make_delivery(make_event(other), make_webhook(other)), hour, 503)
    counting.count_new()
    together = db.session.execute(
        sa.select(AttemptCount.merchant_id, AttemptCount.attempts, AttemptCount.successes)
        .where(AttemptCount.webhook_id == ALL)
        .order_by(AttemptCount.merchant_id)
    ).all()
    assert [tuple(row) for row in together] == [(merchant.id, 2, 2), (other.id, 1, 0)]


def test_running_again_counts_nothing_twice(delivery: Delivery):
    tried(delivery, now() - HOUR)
    for _ in range(3):
        jobs.summarize()
        assert counted() == (1, 1, 1)


def test_an_attempt_that_is_committed_three_minutes_late_is_counted(delivery: Delivery):
    began = now() - 10 * MINUTE
    tried(delivery, began - 2 * MINUTE)
    counting.count_new(began + 3 * MINUTE)
    assert counted() == (1, 1, 1)
    tried(delivery, began, 500)
    counting.count_new(began + 5 * MINUTE)
    assert counted() == (1, 2, 1)


def test_it_catches_up_after_days_without_a_worker(merchant: Merchant, delivery: Delivery):
    tried(delivery, now() - 9 * DAY)
    counting.count_new(now() - 9 * DAY + HOUR)
    for day in range(8):
        make_event(merchant, received_at=now() - day * DAY - HOUR)
        tried(delivery, now() - day * DAY - HOUR)
    counting.count_new()
    assert counted() == (9, 9, 9)


def test_a_long_log_is_counted_in_short_steps(
    merchant: Merchant, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(counting, "BATCH", 2)
    start = now() - HOUR
    for number in range(7):
        # Three began in one millisecond: a step is never shorter.
        tried(delivery, start + number // 3 * MILLISECOND)
        make_event(merchant, received_at=start + number)
    counting.count_new()
    assert counted() == (8, 7, 7)


def test_a_run_ends_in_time_and_the_next_goes_on(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(counting, "BATCH", 1)
    for number in range(3):
        tried(delivery, now() - HOUR + number * SECOND)
    ticks = iter(range(100))
    clock = SimpleNamespace(monotonic=lambda: next(ticks) * 2.0)
    monkeypatch.setattr(counting, "time", clock)
    queue = queues.queue_of(queues.MAINTENANCE)
    jobs.summarize()
    assert counted()[1] < 3
    jobs.summarize()
    assert len(queue) == 1, "what is left is queued once, behind what waits"
    while queue.get_jobs():
        (job,) = queue.get_jobs()
        job.delete()
        assert job.func_name == queues.SUMMARIZE
        jobs.summarize()
    assert counted() == (1, 3, 3)


def test_killed_in_the_middle_it_neither_forgets_nor_counts_twice(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(counting, "BATCH", 1)
    for number in range(4):
        tried(delivery, now() - HOUR + number * SECOND)
    add, calls = counting.add, iter(range(100))

    def dies(*arguments: Any) -> None:
        add(*arguments)
        if next(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(counting, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        counting.count_new()
    assert counted()[1] < 4
    monkeypatch.setattr(counting, "add", add)
    counting.count_new()
    assert counted() == (1, 4, 4)


def test_a_run_that_another_overtook_adds_nothing(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
):
    tried(delivery, now() - HOUR)
    store = counting.store

    def overtaken(*arguments: Any) -> bool:
        monkeypatch.setattr(counting, "store", store)
        counting.count_new()
        return store(*arguments)

    monkeypatch.setattr(counting, "store", overtaken)
    counting.count_new()
    assert counted() == (1, 1, 1)


def test_several_at_once_count_each_row_once(
    app: Flask, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(counting, "BATCH", 3)
    for number in range(30):
        tried(delivery, now() - HOUR + number * SECOND)
    db.session.rollback()

    def run(_: int) -> None:
        with app.app_context():
            counting.count_new()
            db.session.remove()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(12)))
    counting.count_new()
    assert counted() == (1, 30, 30)


def test_tests_are_not_counted(merchant: Merchant, delivery: Delivery):
    make_event(merchant, received_at=now() - HOUR, is_test=True)
    tried(delivery, now() - HOUR, 500, trigger="test")
    counting.count_new()
    assert counted() == (1, 0, 0)


@pytest.mark.parametrize("into_the_hour", [30 * SECOND, 30 * MINUTE, HOUR - 30 * SECOND])
def test_what_happens_after_the_clock_was_set_back_is_counted(
    delivery: Delivery, into_the_hour: int
):
    moment = now() - now() % HOUR - HOUR + into_the_hour
    tried(delivery, moment - MINUTE)
    counting.count_new(moment + HOUR)
    tried(delivery, moment)
    counting.count_new(moment + 5 * MINUTE)
    assert counted()[1:] == (2, 2)


def test_counts_are_forgotten_with_the_log(app: Flask):
    for slug, days in (("short", 2), ("long", 300)):
        merchant = make_merchant(slug, event_days=days)
        event = make_event(merchant, received_at=now() - 100 * DAY)
        tried(make_delivery(event, make_webhook(merchant), "succeeded"), now() - 100 * DAY)
    counting.count_new()
    assert counted() == (2, 2, 2)
    retention.purge_expired()
    assert counted() == (1, 1, 1)
