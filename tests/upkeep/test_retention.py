"""What is past its days goes, in batches; what is owed stays."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import DAY, MILLISECOND, now
from portal.db.session import db
from portal.models import (
    Attempt,
    AttemptPayload,
    Delivery,
    Event,
    EventPayload,
    Merchant,
    OperationsEntry,
)
from portal.upkeep import retention
from tests.conftest import on_both_databases
from tests.factories import make_attempt, make_delivery, make_event, make_merchant, make_webhook

MODELS = {
    "event": Event,
    "event_payload": EventPayload,
    "delivery": Delivery,
    "attempt": Attempt,
    "attempt_payload": AttemptPayload,
}


def story(merchant: Merchant, days_ago: float, state: str = "succeeded") -> None:
    """One event with its delivery and attempt, so many days ago."""
    moment = now() - int(days_ago * DAY)
    event = make_event(merchant, received_at=moment)
    delivery = make_delivery(event, make_webhook(merchant), state)
    request_id = f"req_{moment // MILLISECOND:012x}{delivery.id[-20:]}"
    make_attempt(delivery, id=request_id, attempted_at=moment)


def counts() -> dict[str, int]:
    db.session.rollback()
    return {
        name: db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0
        for name, model in MODELS.items()
    }


def batches_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEWEST_ROWS", "FIRST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(retention, name, rows)


def all_of(number: int, **others: int) -> dict[str, int]:
    return dict.fromkeys(MODELS, number) | others


@on_both_databases
def test_payloads_go_after_15_days_and_logs_after_60(merchant: Merchant):
    for days in (1, 14.9, 15.1, 59.9, 60.1, 400):
        story(merchant, days)
    removed = retention.purge_expired()
    assert removed == {
        "attempt_payload": 4,
        "event_payload": 4,
        "attempt": 2,
        "delivery": 2,
        "event": 2,
    }
    assert counts() == all_of(4, event_payload=2, attempt_payload=2)
    entry = db.session.scalar(sa.select(OperationsEntry))
    assert entry is not None
    assert "2 of event" in entry.message


@on_both_databases
def test_what_a_pending_delivery_needs_is_kept_however_old(merchant: Merchant):
    story(merchant, 400, state="pending")
    retention.purge_expired()
    assert counts() == all_of(1, attempt_payload=0)


@on_both_databases
def test_a_merchant_may_have_periods_of_its_own(app: Flask):
    for slug, days in (("short", 2), ("long", 300)):
        story(make_merchant(slug, event_days=days, payload_days=days), 100)
    retention.purge_expired()
    assert counts() == all_of(1)


def test_a_dry_run_counts_and_removes_nothing(merchant: Merchant):
    story(merchant, 400)
    removed: dict[str, Any] = retention.purge_expired(dry_run=True)
    assert removed == all_of(1)
    assert counts() == all_of(1)
    assert db.session.scalar(sa.select(OperationsEntry)) is None


def test_more_than_a_batch_is_removed(merchant: Merchant, monkeypatch):
    batches_of(2, monkeypatch)
    monkeypatch.setattr(retention, "REST_SECONDS", 0)
    for _ in range(7):
        story(merchant, 400)
    story(merchant, 1)
    retention.purge_expired()
    assert counts() == all_of(1)


def test_killed_midway_it_goes_on_the_next_time(merchant: Merchant, monkeypatch):
    batches_of(1, monkeypatch)
    for _ in range(3):
        story(merchant, 400)
    naps = iter([None])

    def stop(_seconds: float) -> None:
        try:
            next(naps)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(retention.time, "sleep", stop)
    try:
        retention.purge_expired()
    except KeyboardInterrupt:
        assert 0 < counts()["attempt_payload"] < 3
    monkeypatch.setattr(retention, "REST_SECONDS", 0)
    monkeypatch.setattr(retention.time, "sleep", lambda _seconds: None)
    retention.purge_expired()
    assert counts() == all_of(0)
