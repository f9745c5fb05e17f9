"""A clock that jumps ahead, by days or years, makes everything old at once: what would be deleted,
disabled or told of waits until it is sure that so much time has passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from flask.testing import FlaskClient

from portal import clock_watch, jobs, runtime
from portal.clock import DAY, HOUR, MINUTE, SECOND, now
from portal.clock_watch import Seen, judge
from portal.db.session import db
from portal.delivery import drain
from portal.delivery.paces import Paces
from portal.errors import Conflict
from portal.models import Event, Merchant, Notice, OperationsEntry, UserSession, Webhook
from portal.notices import notices
from portal.people import sessions
from portal.upkeep import retention
from tests.clocks import machine_runs
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_user, make_webhook
from tests.receiver import Receiver

YEARS = 3 * 365 * DAY


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@contextmanager
def clock_ahead(by: int) -> Iterator[None]:
    """The clock shows so many µs more than before; the time since the machine's start goes on."""
    _forget_what_is_remembered()
    with time_machine.travel((now() + by) / SECOND):
        yield
    _forget_what_is_remembered()


def _forget_what_is_remembered() -> None:
    """As another process, or this one some seconds later."""
    runtime.part(clock_watch.KnownClock).forget()


def events() -> int:
    db.session.rollback()
    return db.session.scalar(sa.select(sa.func.count()).select_from(Event)) or 0


def told() -> list[str]:
    db.session.rollback()
    return list(
        db.session.scalars(
            sa.select(OperationsEntry.message).where(OperationsEntry.kind == clock_watch.KIND)
        )
    )


# ── What waits ────────────────────────────────────────────────────────────────────────────


@on_both_databases
def test_what_is_young_is_not_deleted_and_the_clean_up_goes_on_when_the_clock_is_right(
    merchant: Merchant,
):
    make_event(merchant)
    make_event(merchant, received_at=now() - 400 * DAY)
    jobs.sweep()
    with clock_ahead(YEARS):
        jobs.sweep()
        assert retention.run() == 0
        with pytest.raises(Conflict, match="ahead by 1,095 days"):
            retention.purge_expired()
        assert events() == 2
    jobs.sweep()
    assert retention.run() > 0
    assert events() == 1
    first, second = told()
    assert "Nothing is deleted, disabled or warned of" in first
    assert "in doubt no more" in second


@on_both_databases
def test_it_is_believed_once_an_hour_has_really_passed(merchant: Merchant):
    make_event(merchant)
    jobs.sweep()
    with clock_ahead(YEARS):
        jobs.sweep()
        assert clock_watch.is_doubted()
    nearly, over = clock_watch.WAIT - MINUTE, clock_watch.WAIT + MINUTE
    with machine_runs(nearly), clock_ahead(YEARS + nearly):
        assert clock_watch.is_doubted()
    with machine_runs(over), clock_ahead(YEARS + over):
        assert not clock_watch.is_doubted()
        retention.run()
        assert events() == 0


@on_both_databases
def test_a_webhook_that_fails_since_yesterday_is_not_disabled(
    merchant: Merchant, receiver: Receiver
):
    receiver.answers = [500]
    since = now() - DAY
    webhook = make_webhook(merchant, receiver.url(), failures=20, failing_since=since)
    webhook_id = webhook.id
    jobs.sweep()
    with clock_ahead(YEARS):
        make_delivery(make_event(merchant), db.session.get_one(Webhook, webhook_id))
        drain.drain(0, paces=Paces(linger_seconds=0.5))
        assert len(receiver.ledger) == 1, "deliveries go on"
        noted = sa.select(OperationsEntry.message).where(OperationsEntry.kind == clock_watch.KIND)
        assert db.session.scalars(noted).all() == [], "who sends does not wait for a turn to write"
        db.session.rollback()
        notices.run()
        db.session.rollback()
        failed = db.session.get_one(Webhook, webhook_id)
        assert failed.enabled
        assert failed.failures == 21
        assert db.session.scalars(sa.select(Notice.kind)).all() == []


def test_who_is_signed_in_is_so_again_when_the_clock_is_right(app: Flask, merchant: Merchant):
    user, other = make_user("editor", merchant), make_user("viewer", merchant)
    token = sessions.begin(user)
    jobs.sweep()
    with clock_ahead(YEARS):
        assert sessions.find(token) is None
        sessions.begin(other)
    assert sessions.find(token) is not None
    assert db.session.scalar(sa.select(sa.func.count()).select_from(UserSession)) == 2


def test_it_is_a_warning_to_who_watches_and_no_failure(
    client: FlaskClient, merchant: Merchant, signed_in: Callable[[str], FlaskClient]
):
    jobs.sweep()
    assert "clock" not in client.get("/readyz").json
    with clock_ahead(3 * DAY):
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json["status"]) == (200, "degraded")
        assert answer.json["clock"] == "doubted"
        page = signed_in("operator").get("/staff/operations").text
        assert "The clock is in doubt." in page
        assert "ahead by 3 days" in page


# ── What is believed ──────────────────────────────────────────────────────────────────────

START = 1_700_000_000 * SECOND


def test_a_clock_that_goes_on_or_is_set_back_is_believed():
    known = judge(None, None, START, HOUR)
    assert known == Seen(START - HOUR, START)
    for passed in (0, MINUTE, 400 * DAY):
        assert not judge(known, START, START + passed, HOUR + passed).is_doubted
    for step in (-YEARS, -HOUR, MINUTE, clock_watch.STEP):
        assert not judge(known, START, START + step, HOUR).is_doubted


def test_a_machine_that_was_off_is_believed_at_once_or_after_an_hour():
    assert not judge(None, START, START + clock_watch.STOPPED, MINUTE).is_doubted
    week = START + 7 * DAY
    off = judge(None, START, week, MINUTE)
    assert off.is_doubted
    assert judge(off, START, week + 59 * MINUTE, HOUR) == off
    assert judge(off, START, week + HOUR, HOUR + MINUTE) == Seen(week - MINUTE, week + HOUR)


def test_one_that_jumps_again_is_doubted_for_another_hour():
    known = judge(None, None, START, MINUTE)
    once = judge(known, START, START + 9 * DAY, MINUTE)
    again = judge(once, START, START + 30 * DAY, 50 * MINUTE)
    assert (once.doubted_from, again.doubted_from) == (MINUTE, 50 * MINUTE)
    assert judge(again, START, START + 30 * DAY, 61 * MINUTE).is_doubted
    back = judge(again, START, START + 61 * MINUTE, 62 * MINUTE)
    assert back == Seen(START - MINUTE, START + 61 * MINUTE)
