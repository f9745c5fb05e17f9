"""The clean-up works in slices: others get their turn, and what was killed or missed is made up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, current_app
from flask.testing import FlaskClient
from redis import Redis
from rq.job import Job

from benchmarks import history
from portal import jobs, queues
from portal.clock import DAY, HOUR, MINUTE, SECOND, from_iso, iso, now
from portal.db.session import db, writing
from portal.delivery import actions
from portal.errors import Unavailable
from portal.models import CleanUp, Delivery, Event, Merchant, OperationsEntry
from portal.upkeep import expiry, retention
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_merchant, make_webhook

pytestmark = on_both_databases

Start = Callable[..., subprocess.Popen[bytes]]
Wait = Callable[..., None]
SignIn = Callable[[str], FlaskClient]


@pytest.fixture
def settings() -> dict[str, str]:
    # At another hour than now, so that no minute of a test is cron's.
    hour = (datetime.now().hour + 12) % 24
    return {"SWEEP_SECONDS": "1", "LANES": "2", "RETENTION_CRON": f"17 {hour} * * *"}


def old_events(merchant: Merchant, count: int) -> None:
    """Each 70 days old, with a delivery that has ended, without payloads."""
    history.fill(make_webhook(merchant), count, days=70, payload_days=0)
    db.session.execute(sa.text(f"UPDATE event SET received_at = received_at - {70 * DAY}"))
    db.session.execute(sa.text(f"UPDATE delivery SET created_at = created_at - {70 * DAY}"))
    db.session.commit()


def events() -> int:
    db.session.rollback()
    return db.session.scalar(sa.select(sa.func.count()).select_from(Event)) or 0


def row() -> CleanUp:
    found = retention.latest()
    assert found is not None
    return found


def change(**values: Any) -> None:
    db.session.rollback()
    db.session.execute(sa.update(CleanUp).values(values))
    db.session.commit()


def waiting() -> list[Job]:
    return queues.queue_of(queues.MAINTENANCE).get_jobs()


def messages() -> list[str]:
    db.session.rollback()
    return list(db.session.scalars(sa.select(OperationsEntry.message).order_by(OperationsEntry.id)))


def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEWEST_ROWS", "FIRST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(retention, name, 5)
    monkeypatch.setattr(retention, "RUN_SECONDS", 0.05)


def test_each_slice_queues_the_next_behind_what_waits(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_events(merchant, 40)
    small_slices(monkeypatch)
    jobs.purge()
    slices = 1
    while found := waiting():
        (job,) = found
        slices += 1
        assert (job.func_name, job.args) == (queues.PURGE, [row().token])
        job.delete()
        assert jobs.purge(row().token - 1) >= 0, "an old run changes nothing"
        assert not waiting()
        jobs.purge(*job.args)
    assert slices > 2
    assert events() == 0
    (message,) = messages()
    assert "40 of event" in message
    assert "40 of delivery" in message
    assert not row().is_running


def run_to_the_end(most: int) -> int:
    """How many runs it took, each with the last one's token."""
    jobs.purge()
    for runs in range(1, most):
        if not row().is_running:
            return runs
        jobs.purge(row().token)
    raise AssertionError(f"It has not ended after {most} runs, and is at {row().cursor}.")


def test_with_many_merchants_each_run_goes_on_from_the_last_without_asking_again(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        merchant = make_merchant(f"m{number}", event_days=90 if number == 0 else None)
        make_event(merchant, received_at=now() - 70 * DAY)
        make_webhook(merchant)
    monkeypatch.setattr(retention, "RUN_SECONDS", 0.03)
    queries: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM webhook" in statement:
            queries.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", note)
    runs = run_to_the_end(600)
    assert events() == 1
    assert len(queries) <= runs
    (message,) = messages()
    assert "99 of event in" in message


def test_a_run_whose_time_is_over_before_it_looked_gets_on_all_the_same(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "RUN_SECONDS", 0)
    monkeypatch.setattr(expiry, "PAGE", 2)
    for number, days in enumerate((90, None, 10, None)):
        merchant = make_merchant(f"m{number}", event_days=days)
        for age in (20, 70):
            event = make_event(merchant, received_at=now() - age * DAY)
            for _ in range(3):
                delivery = make_delivery(event, make_webhook(merchant), "succeeded")
                delivery.created_at = event.received_at
    db.session.commit()
    # Walks: everybody's, and those of three merchants or of their eighteen webhooks.
    run_to_the_end(80)
    assert events() == 4
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Delivery)) == 12
    assert "4 of event" in messages()[-1]
    assert "12 of delivery" in messages()[-1]


def test_a_second_one_does_not_begin_beside_it(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_events(merchant, 40)
    small_slices(monkeypatch)
    jobs.purge()
    token = row().token
    assert row().is_running
    jobs.purge()
    assert row().token == token
    assert len(waiting()) == 1


def test_a_missed_one_is_begun_by_the_sweep(merchant: Merchant) -> None:
    retention.sweep()
    assert retention.sweep() == 0, "the first is due at the next time of cron"
    old_events(merchant, 10)
    change(began_at=now() - 25 * HOUR, finished_at=now() - 25 * HOUR)
    assert jobs.sweep() == 1
    assert "did not begin" in messages()[-1]
    (job,) = waiting()
    assert jobs.sweep() == 0
    jobs.purge(*job.args)
    assert events() == 0
    assert jobs.sweep() == 0


def test_one_whose_minute_has_just_come_is_left_to_cron(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention.sweep()
    began = row().began_at
    scheduled = retention.scheduled_before(began + DAY)
    assert scheduled is not None
    for later, due in ((MINUTE, 0), (3 * MINUTE, 1)):
        monkeypatch.setattr(retention, "now", lambda later=later: scheduled + later)
        assert retention.sweep() == due


def test_after_the_clock_was_set_back_one_is_due(merchant: Merchant) -> None:
    retention.sweep()
    change(began_at=now() + 300 * DAY, finished_at=now() + 300 * DAY, worked_at=now() + 300 * DAY)
    assert retention.sweep() == 1
    assert retention.sweep() == 0
    assert row().is_running


def test_a_time_that_a_night_leaves_out_is_not_missed_before_it_comes(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In Helsinki the clocks went from 03:00 to 04:00 at 01:00 UTC; cron takes 03:17 as 01:17 UTC.
    object.__setattr__(app.config["PORTAL"], "retention_cron", "17 3 * * *")
    monkeypatch.setenv("TZ", "Europe/Helsinki")
    time.tzset()
    try:
        found = [
            iso(retention.scheduled_before(from_iso(f"2026-03-29T01:{minute}:00Z")) or 0)
            for minute in ("01", "16", "18")
        ]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == ["2026-03-28T01:17:00Z", "2026-03-28T01:17:00Z", "2026-03-29T01:17:00Z"]


def test_a_weekly_one_is_not_run_each_day(merchant: Merchant, app: Flask) -> None:
    retention.sweep()
    day = (datetime.now().isoweekday() + 1) % 7
    line = f"17 3 * * {day}"
    settings = app.config["PORTAL"]
    object.__setattr__(settings, "retention_cron", line)
    change(began_at=now() - 4 * DAY, finished_at=now() - 4 * DAY)
    assert retention.sweep() == 0
    change(began_at=now() - 8 * DAY, finished_at=now() - 8 * DAY)
    assert retention.sweep() == 1


def test_one_that_lost_its_worker_or_its_job_goes_on(
    merchant: Merchant, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_events(merchant, 40)
    small_slices(monkeypatch)
    jobs.purge()
    token = row().token
    silent = now() - retention.STALE - SECOND
    change(worked_at=silent)
    assert retention.sweep() == 0, "its job waits in the queue"
    Redis.from_url(valkey).flushall()
    assert retention.sweep() == 1
    assert retention.sweep() == 0
    assert row().token == token + 1
    assert queues.waits_for_purge(token + 1)


def test_one_that_takes_too_long_is_noted_once(merchant: Merchant) -> None:
    retention.sweep()
    change(moment=now(), began_at=now() - 2 * DAY, finished_at=now() - 2 * DAY, worked_at=now())
    for _ in range(2):
        retention.sweep()
    assert [message for message in messages() if "has not ended" in message] == messages()
    assert len(messages()) == 1


def test_two_sweeps_that_find_it_late_say_it_once_also_when_its_token_rose_meanwhile(
    merchant: Merchant,
) -> None:
    retention.sweep()
    began = now() - 2 * DAY
    change(moment=began, began_at=began, worked_at=now(), token=7)
    for token in (7, 8):
        change(token=token)
        retention.warn(began)
    assert len(messages()) == 1
    # What has ended, or begun again, is not late any more.
    change(moment=None, warned_at=None)
    retention.warn(began)
    change(moment=began, began_at=began + 1)
    retention.warn(began)
    assert len(messages()) == 1


def test_a_database_that_goes_away_at_the_last_question_keeps_the_job_from_failing(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_token: int, _should_stop: object) -> None:
        @contextmanager
        def away() -> Iterator[Any]:
            raise Unavailable("The database is busy or away.")
            yield

        monkeypatch.setattr(retention, "reading", away)

    monkeypatch.setattr(retention, "_work", end)
    assert jobs.purge() == 0


class Clock:
    """Time in which each batch takes as long as a test says."""

    def __init__(self, took: float):
        self.rests: list[float] = []
        self._took, self._at = took, 0.0

    def monotonic(self) -> float:
        """So much later with each look."""
        self._at += self._took
        return self._at

    def sleep(self, seconds: float) -> None:
        """Note it, and go on."""
        self.rests.append(seconds)


def test_batches_that_are_quick_grow_to_a_bound_and_rest_all_the_same(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_events(merchant, 3_000)
    # Deliveries and attempts are other batches.
    for name in ("delivery", "attempt"):
        db.session.execute(sa.text(f"DELETE FROM {name}"))
    db.session.commit()
    removed: list[int] = []
    remove = expiry.Walk.remove

    def noted(*arguments: Any) -> int:
        removed.append(remove(*arguments))
        return removed[-1]

    clock = Clock(0.001)
    monkeypatch.setattr(expiry.Walk, "remove", noted)
    monkeypatch.setattr(retention, "time", clock)
    retention.purge_expired()
    assert removed == [100, 200, 400, 800, 1_000, 500]
    assert clock.rests == pytest.approx([retention.REST_SECONDS] * len(removed))


def test_the_staff_page_says_when_it_last_ran_and_that_it_is_late(
    merchant: Merchant, signed_in: SignIn
) -> None:
    retention.sweep()
    page = signed_in("operator").get("/staff/operations").text
    assert "has not been due yet" in page
    db.session.rollback()
    old_events(merchant, 3)
    retention.purge_expired()
    page = signed_in("operator").get("/staff/operations").text
    assert "7 rows removed" in page, "of the attempts one is past its days"
    assert "has not run" not in page
    change(began_at=now() - 2 * DAY, finished_at=now() - 2 * DAY)
    page = signed_in("operator").get("/staff/operations").text
    assert "has not run" in page


def test_a_pending_delivery_is_passed_over_and_deleted_once_it_has_ended(
    merchant: Merchant,
) -> None:
    event = make_event(merchant, received_at=now() - 90 * DAY)
    waits = make_delivery(event, make_webhook(merchant)).id
    old_events(merchant, 10)
    retention.purge_expired()
    assert events() == 1
    db.session.execute(sa.update(Delivery).values(state="succeeded", next_attempt_at=None))
    db.session.commit()
    retention.purge_expired()
    assert events() == 0
    assert db.session.get(Delivery, waits) is None


def test_what_a_deleted_webhook_was_left_owing_ends_and_is_deleted_in_its_time(
    merchant: Merchant,
) -> None:
    """Whoever deleted it was killed before all was discarded."""
    deleted, kept = make_webhook(merchant), make_webhook(merchant)
    old, young = make_event(merchant, received_at=now() - 90 * DAY), make_event(merchant)
    make_delivery(old, deleted)
    left, waits = make_delivery(young, deleted, is_retry=True), make_delivery(young, kept)
    deleted.delete()
    db.session.commit()
    left_id, waits_id, young_id = left.id, waits.id, young.id
    retention.purge_expired()
    rows = db.session.execute(sa.select(Delivery.id, Delivery.state, Delivery.reason)).all()
    assert {tuple(row) for row in rows} == {
        (left_id, "discarded", "The webhook was deleted."),
        (waits_id, "pending", None),
    }
    assert db.session.scalars(sa.select(Event.id)).all() == [young_id]


def test_what_becomes_pending_between_the_look_and_the_delete_stays(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_events(merchant, 3)
    chosen = db.session.scalar(sa.select(Delivery.id).order_by(Delivery.created_at).offset(1))
    remove = retention._remove

    def sent_again_meanwhile(*arguments: Any) -> bool:
        db.session.execute(sa.update(Delivery).where(Delivery.id == chosen).values(state="pending"))
        db.session.commit()
        return remove(*arguments)

    monkeypatch.setattr(retention, "_remove", sent_again_meanwhile)
    retention.purge_expired()
    assert db.session.scalars(sa.select(Delivery.id)).all() == [chosen]
    assert events() == 1


def test_what_is_sent_again_at_this_very_moment_keeps_its_record_data(merchant: Merchant) -> None:
    """The clean-up of a payload waits for who makes its delivery pending, and sees it then."""
    event = make_event(merchant, received_at=now() - 20 * DAY)
    delivery = make_delivery(event, make_webhook(merchant), "failed")
    app = current_app._get_current_object()  # type: ignore[attr-defined]

    def clean_up() -> dict[str, int]:
        with app.app_context():
            return retention.purge_expired()

    merchant_id, delivery_id = merchant.id, delivery.id
    event_id = event.id
    with ThreadPoolExecutor(1) as pool:
        with writing() as session:
            assert actions.keeps_payload(session, merchant_id, event_id)
            session.execute(sa.update(Delivery).values(state="pending", next_attempt_at=now()))
            beside = pool.submit(clean_up)
            time.sleep(0.5)
            assert not beside.done()
        assert beside.result(20)["event_payload"] == 0
    assert actions.resend(merchant_id, delivery_id, "cli").state == "pending"


@pytest.mark.engine
def test_a_killed_worker_is_made_up_for_and_sweeps_are_on_time_meanwhile(
    app: Flask,
    merchant: Merchant,
    processes: Start,
    wait_for: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old_events(merchant, 8_000)
    retention.sweep()
    # What cron of an earlier version queued.
    queue = queues.queue_of(queues.MAINTENANCE)
    queue.enqueue(queues.PURGE)
    worker = processes("worker.py", "--part", "maintenance")
    wait_for(lambda: sum(row().removed.values()) > 0)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    assert row().is_running
    assert events() > 0
    monkeypatch.setattr(retention, "STALE", 0)
    if not queues.waits_for_purge(row().token):
        assert retention.sweep() == 1
    processes("worker.py", "--part", "maintenance")

    def seconds_of_a_sweep() -> float:
        job, since = queue.enqueue(queues.SWEEP, result_ttl=60), time.monotonic()
        wait_for(lambda: job.get_status(refresh=True).value == "finished", 60)
        return time.monotonic() - since

    # The first waits for the worker's start.
    seconds_of_a_sweep()
    waits = [0.0]
    while row().is_running:
        waits.append(seconds_of_a_sweep())
    assert max(waits) < retention.RUN_SECONDS + 3
    assert events() == 0
    assert "8,000 of event" in messages()[-1]
