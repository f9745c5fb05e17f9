"""How things have been going, from counts by the hour and what is not counted yet.

What a page costs depends on hours and webhooks, never on how long the log is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import sqlalchemy as sa

from portal.clock import DAY, HOUR, MILLISECOND, now
from portal.counts import counting, durations
from portal.db.session import db
from portal.ids import moment_of_request_id, request_id_at
from portal.models import Attempt, AttemptCount, CountedUntil, Event, EventCount
from portal.models.statistics import ALL

UNCOUNTED = 10_000
"""Rows of a log that a page looks through itself because they are not counted yet."""


@dataclass(frozen=True)
class Span:
    """A period up to now in equal steps; `length` and `step` in µs."""

    key: str
    text: str
    length: int
    step: int

    def starts(self, moment: int) -> list[int]:
        """Where each step begins, the oldest first; the last one holds `moment`."""
        last = moment - moment % self.step
        return list(range(last - self.length + self.step, last + 1, self.step))


SPANS = {
    span.key: span
    for span in (
        Span("24h", "24 hours", DAY, HOUR),
        Span("7d", "7 days", 7 * DAY, 6 * HOUR),
        Span("30d", "30 days", 30 * DAY, DAY),
    )
}


@dataclass(frozen=True)
class Row:
    """Events of a merchant, or attempts of a webhook that took about as long, in a stretch that
    began at `starts_at` (Unix µs)."""

    starts_at: int
    webhook_id: str = ""
    took: int = 0
    attempts: int = 0
    successes: int = 0
    events: int = 0


@dataclass
class Tally:
    """Events and attempts of a stretch of time; `took` has the successes by class of duration."""

    events: int = 0
    attempts: int = 0
    successes: int = 0
    took: Counter[int] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Count a row too."""
        self.events += row.events
        self.attempts += row.attempts
        self.successes += row.successes
        if row.successes:
            self.took[row.took] += row.successes

    @property
    def failures(self) -> int:
        """Attempts that did not succeed."""
        return self.attempts - self.successes

    @property
    def rate(self) -> float | None:
        """The part of attempts that succeeded, 0 to 1."""
        return self.successes / self.attempts if self.attempts else None

    @property
    def p95(self) -> int | None:
        """What 95 of 100 successful attempts did not take longer than, in µs."""
        return durations.quantile(self.took, 0.95)


@dataclass(frozen=True)
class Point:
    """One step of a chart, from `starts_at` on (Unix µs)."""

    starts_at: int
    tally: Tally


@dataclass(frozen=True)
class History:
    """A span's steps and their sum. `recent` and `before` are its whole hours and the same hours
    one span earlier, to be compared. `until` (Unix µs) says that counting is behind and ends
    there; None when everything is in it."""

    span: Span
    points: list[Point]
    total: Tally
    recent: Tally
    before: Tally
    until: int | None


def history(
    merchant_id: int, span: Span, webhook_id: str | None = None, moment: int | None = None
) -> History:
    """How a merchant has been doing, or one webhook of it (then no events are counted)."""
    moment = now() if moment is None else moment
    starts = span.starts(moment)
    points = {start: Tally() for start in starts}
    total, recent, before = Tally(), Tally(), Tally()
    first, hour = starts[0], moment - moment % HOUR
    rest = _Uncounted(merchant_id, webhook_id, first)
    for row in chain(
        _attempts(merchant_id, webhook_id or ALL, first, hour, span.step),
        _attempts(merchant_id, webhook_id or ALL, hour, moment, HOUR),
        _events(merchant_id, first, moment) if webhook_id is None else (),
        rest.rows(),
    ):
        total.add(row)
        if row.starts_at < hour:
            recent.add(row)
        if tally := points.get(row.starts_at - row.starts_at % span.step):
            tally.add(row)
    earlier = (first - span.length, hour - span.length)
    for row in chain(
        _attempts(merchant_id, webhook_id or ALL, *earlier, span.length),
        _events(merchant_id, *earlier) if webhook_id is None else (),
    ):
        before.add(row)
    return History(
        span, [Point(start, points[start]) for start in starts], total, recent, before, rest.until
    )


def by_webhook(merchant_id: int, moment: int | None = None) -> dict[str, list[Point]]:
    """The last 24 hours of each webhook that had attempts, hour by hour, the oldest first."""
    moment = now() if moment is None else moment
    starts = SPANS["24h"].starts(moment)
    found: dict[str, list[Point]] = {}
    for row in chain(
        _by_hour(merchant_id, starts[0]), _Uncounted(merchant_id, None, starts[0]).rows()
    ):
        index = (row.starts_at - starts[0]) // HOUR
        if row.attempts and 0 <= index < len(starts):
            if row.webhook_id not in found:
                found[row.webhook_id] = [Point(start, Tally()) for start in starts]
            found[row.webhook_id][index].tally.add(row)
    return found


def by_merchant(merchant_ids: Collection[int], moment: int | None = None) -> dict[int, Tally]:
    """Events and attempts of the last 24 hours of each of some merchants, as far as they are
    counted: from the counts alone, whatever the logs hold."""
    moment = now() if moment is None else moment
    since = SPANS["24h"].starts(moment)[0]
    found = {merchant_id: Tally() for merchant_id in merchant_ids}
    events = (
        sa.select(EventCount.merchant_id, sa.func.sum(EventCount.events))
        .where(EventCount.merchant_id.in_(merchant_ids), EventCount.starts_at >= since)
        .group_by(EventCount.merchant_id)
    )
    for merchant_id, count in db.session.execute(events):
        found[merchant_id].events = int(count)
    attempts = (
        sa.select(
            AttemptCount.merchant_id,
            sa.func.sum(AttemptCount.attempts),
            sa.func.sum(AttemptCount.successes),
        )
        .where(
            AttemptCount.merchant_id.in_(merchant_ids),
            AttemptCount.webhook_id == ALL,
            AttemptCount.starts_at >= since,
        )
        .group_by(AttemptCount.merchant_id)
    )
    for merchant_id, count, successes in db.session.execute(attempts):
        found[merchant_id].attempts = int(count)
        found[merchant_id].successes = int(successes)
    return found


def sum_of(points: Iterable[Point]) -> Tally:
    """All steps together."""
    total = Tally()
    for point in points:
        total.events += point.tally.events
        total.attempts += point.tally.attempts
        total.successes += point.tally.successes
        total.took.update(point.tally.took)
    return total


def _attempts(
    merchant_id: int, webhook_id: str, since: int, until: int, step: int
) -> Iterator[Row]:
    """Counts of a webhook, or ALL, from `since` until before `until`, by step and class."""
    start = AttemptCount.starts_at - AttemptCount.starts_at % sa.literal_column(str(step))
    rows = (
        sa.select(
            start.label("start"), AttemptCount.took, AttemptCount.attempts, AttemptCount.successes
        )
        .where(
            AttemptCount.merchant_id == merchant_id,
            AttemptCount.webhook_id == webhook_id,
            AttemptCount.starts_at >= since,
            AttemptCount.starts_at < until,
        )
        .subquery()
    )
    key = (rows.c.start, rows.c.took)
    for found in db.session.execute(
        sa.select(*key, sa.func.sum(rows.c.attempts), sa.func.sum(rows.c.successes)).group_by(*key)
    ):
        yield Row(found[0], webhook_id, found[1], int(found[2]), int(found[3]))


def _by_hour(merchant_id: int, since: int) -> Iterator[Row]:
    """Counts of every webhook of a merchant from a moment on."""
    for found in db.session.execute(
        sa.select(
            AttemptCount.starts_at,
            AttemptCount.webhook_id,
            AttemptCount.took,
            AttemptCount.attempts,
            AttemptCount.successes,
        ).where(
            AttemptCount.merchant_id == merchant_id,
            AttemptCount.starts_at >= since,
            AttemptCount.webhook_id != ALL,
        )
    ):
        yield Row(*found)


def _events(merchant_id: int, since: int, until: int) -> Iterator[Row]:
    for starts_at, events in db.session.execute(
        sa.select(EventCount.starts_at, EventCount.events).where(
            EventCount.merchant_id == merchant_id,
            EventCount.starts_at >= since,
            EventCount.starts_at < until,
        )
    ):
        yield Row(starts_at, events=events)


class _Uncounted:
    """What the logs hold from where counting has got to, UNCOUNTED rows of each at most, and none
    from before `since`. `until` says where that cuts something off (Unix µs); None: nothing."""

    def __init__(self, merchant_id: int, webhook_id: str | None, since: int):
        self._of_merchant = webhook_id is None
        start = max(since, db.session.scalar(sa.select(CountedUntil.moment)) or 0)
        self._attempts = sa.select(Attempt).where(
            Attempt.merchant_id == merchant_id, Attempt.id >= request_id_at(start)
        )
        if webhook_id is not None:
            self._attempts = self._attempts.where(Attempt.webhook_id == webhook_id)
        self._events = sa.select(Event).where(
            Event.merchant_id == merchant_id, Event.received_at >= start
        )
        attempt_id = db.session.scalar(
            self._attempts.with_only_columns(Attempt.id)
            .order_by(Attempt.id)
            .offset(UNCOUNTED)
            .limit(1)
        )
        received_at = db.session.scalar(
            self._events.with_only_columns(Event.received_at)
            .order_by(Event.received_at, Event.id)
            .offset(UNCOUNTED)
            .limit(1)
        )
        ends = [] if attempt_id is None else [moment_of_request_id(attempt_id)]
        ends += [] if received_at is None else [received_at - received_at % MILLISECOND]
        self.until = min(ends) if ends else None
        if self.until is not None:
            self._attempts = self._attempts.where(Attempt.id < request_id_at(self.until))
            self._events = self._events.where(Event.received_at < self.until)

    def rows(self) -> Iterator[Row]:
        """Attempts by hour, webhook and class; a merchant's events by hour."""
        for found in db.session.execute(counting.attempt_counts(self._attempts)):
            yield Row(
                found.starts_at, found.webhook_id, found.took, found.attempts, int(found.successes)
            )
        if not self._of_merchant:
            return
        for found in db.session.execute(counting.event_counts(self._events)):
            yield Row(found.starts_at, events=found.events)
