"""What makes a demo of this minute look like a store in use, for pictures: two weeks before it, as
the logs would have been counted, and targets with names, in a network with distances."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import sqlalchemy as sa

from portal.clock import DAY, HOUR, now
from portal.counts.durations import BOUNDS
from portal.db.session import db, writing
from portal.models import Attempt, AttemptCount, EventCount, Webhook
from portal.models.statistics import ALL
from portal.people import accounts
from tests.browser.live import LivePortal, Store
from tests.receiver import Receiver

TARGET = "https://hooks.northwind.example"
DAYS = 15
EVENTS_AT_NOON = 140
BUSY_FROM, BUSY_FOR = 7, 15
"""The hours (UTC) in which people shop."""
USUAL_MS = 90
OUTAGE_HOURS = (5, 6)
"""How long ago a target answered errors."""


def give_a_past(live: LivePortal, store: Store, webhook_ids: Sequence[str]) -> None:
    """Counts of the hours of DAYS days, of which the logs themselves hold none. Called before the
    portal counts for the first time, a few minutes after it started."""
    chance = random.Random(1042)
    rows: list[EventCount | AttemptCount] = []
    with live.app.app_context():
        merchant_id = accounts.get_merchant(store.slug).id
        moment = now()
        this_hour = moment - moment % HOUR
        for ago in range(DAYS * 24):
            starts_at = this_hour - ago * HOUR
            events = _events(starts_at % DAY // HOUR, chance)
            if not ago:
                events = events * (moment - this_hour) // HOUR
            rows.append(EventCount(merchant_id=merchant_id, starts_at=starts_at, events=events))
            rows += _attempts(merchant_id, starts_at, ago, events, webhook_ids, chance)
        with writing() as session:
            session.add_all(rows)
        db.session.remove()


def give_names(live: LivePortal, store: Store, receiver: Receiver) -> None:
    """Let the targets look like TARGET with its times, in what is logged so far; the
    next probe is far off, since nothing is there."""
    chance = random.Random(1042)
    with live.app.app_context():
        merchant_id = accounts.get_merchant(store.slug).id
        local = receiver.url("")
        with writing() as session:
            for webhook in session.scalars(
                sa.select(Webhook).where(Webhook.merchant_id == merchant_id)
            ):
                webhook.url = webhook.url.replace(local, TARGET)
                if webhook.next_probe_at:
                    webhook.next_probe_at += DAY
            for attempt in session.scalars(
                sa.select(Attempt).where(Attempt.merchant_id == merchant_id)
            ):
                attempt.uri = attempt.uri.replace(local, TARGET)
                parts = {
                    "dns_us": chance.randint(2_000, 5_000),
                    "connect_us": chance.randint(9_000, 14_000),
                    "tls_us": chance.randint(18_000, 27_000),
                    "download_us": chance.randint(200, 900),
                }
                attempt.duration_us += sum(
                    value - (getattr(attempt, name) or 0) for name, value in parts.items()
                )
                for name, value in parts.items():
                    setattr(attempt, name, value)
        db.session.remove()


def _events(hour: int, chance: random.Random) -> int:
    day = max(0.0, math.sin((hour - BUSY_FROM) / BUSY_FOR * math.pi))
    return round(EVENTS_AT_NOON * (0.08 + day) * chance.uniform(0.8, 1.15))


def _attempts(
    merchant_id: int,
    starts_at: int,
    ago: int,
    events: int,
    webhook_ids: Sequence[str],
    chance: random.Random,
) -> list[AttemptCount]:
    together: dict[int, tuple[int, int]] = {}
    rows = []
    for place, webhook_id in enumerate(webhook_ids):
        left = events // (place + 1)
        for took, part in ((-2, 0.3), (-1, 0.4), (0, 0.25), (2, 0.05)):
            slower = 3 if ago in OUTAGE_HOURS else 0
            number = _class_of(USUAL_MS) + took + slower
            attempts = round(left * part)
            if not attempts:
                continue
            failed = attempts * 0.45 if place and slower else attempts * chance.uniform(0, 0.02)
            successes = attempts - round(failed)
            rows.append((webhook_id, number, attempts, successes))
            before = together.get(number, (0, 0))
            together[number] = (before[0] + attempts, before[1] + successes)
    rows += [(ALL, number, *counts) for number, counts in together.items()]
    return [
        AttemptCount(
            merchant_id=merchant_id,
            starts_at=starts_at,
            webhook_id=webhook_id,
            took=number,
            attempts=attempts,
            successes=successes,
        )
        for webhook_id, number, attempts, successes in rows
    ]


def _class_of(milliseconds: int) -> int:
    return sum(bound <= milliseconds * 1_000 for bound in BOUNDS)
