"""What is past its days, found and deleted by ranges of an index: nothing here reads a table.

Each table is walked from its oldest row on. First goes what is past everybody's days, in the order
of age, in which rows lie beside each other; then what is past the days of each merchant whose
period is shorter than the longest, by an index that begins with the merchant. So nobody's rows are
read because another keeps theirs longer, and no night reads what an earlier one has left for later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import scoped_session

from portal.clock import DAY, HOUR
from portal.db.session import reading, table
from portal.diagnosis import inspector
from portal.ids import request_id_at
from portal.models import (
    Attempt,
    AttemptCount,
    AttemptPayload,
    Delivery,
    Event,
    EventCount,
    EventPayload,
    IdempotencyKey,
    InspectedRequest,
    Merchant,
    Webhook,
)
from portal.models.delivery import PENDING_LITERAL
from portal.storage import sizes

EVENTS, PAYLOADS = "events", "payloads"
"""The two periods of a merchant."""

PAGE = 1_000
"""Webhooks read at once, of those whose deliveries are walked one webhook after another."""

Key = tuple[Any, ...]
Mark = tuple[int, int, str]
"""A walk's position among all: its log's, the merchant's ID (0 for everybody's rows), the owner."""
FIRST: Mark = (0, 0, "")
Session = scoped_session[Any]


@dataclass(frozen=True)
class Owned:
    """The rows of one owner: the column that names it, and the key by which an index that begins
    with this column goes on."""

    column: sa.Column[Any]
    key: tuple[sa.Column[Any], ...]


@dataclass(frozen=True)
class ExpiringLog:
    """A table whose rows end. `key` is an index that begins with their age; `bound` makes of a
    moment (Unix µs) what the key of a row that is past its days is less than.

    `period` is one of the merchant's, or a time (µs) that holds for everybody. Rows of which `keep`
    is true stay however old they are.
    """

    table: sa.Table
    key: tuple[sa.Column[Any], ...]
    period: str | int
    owned: Owned | None = None
    keep: sa.ColumnElement[bool] | None = None
    bound: Callable[[int], Any] = lambda moment: moment
    is_by_merchant_alone: bool = False

    @property
    def name(self) -> str:
        """The table's."""
        return str(self.table.name)


def _owed(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    # A value and not EXISTS, for which PostgreSQL would make a table of all deliveries; and not by
    # the index of what is pending, which holds all that is held: each batch would read it.
    state = Delivery.state.concat(sa.literal_column("''"))
    pending = sa.select(Delivery.id).where(state == PENDING_LITERAL, *conditions).limit(1)
    return pending.scalar_subquery().is_not(None)


def _logs() -> tuple[ExpiringLog, ...]:
    event, payload, delivery = table(Event).c, table(EventPayload).c, table(Delivery).c
    attempt, attempt_payload = table(Attempt).c, table(AttemptPayload).c
    return (
        ExpiringLog(
            table(AttemptPayload),
            (attempt_payload.attempt_id,),
            PAYLOADS,
            Owned(attempt_payload.merchant_id, (attempt_payload.attempt_id,)),
            bound=request_id_at,
        ),
        ExpiringLog(
            table(EventPayload),
            (payload.received_at, payload.merchant_id, payload.event_id),
            PAYLOADS,
            Owned(payload.merchant_id, (payload.received_at,)),
            _owed(
                Delivery.merchant_id == payload.merchant_id, Delivery.event_id == payload.event_id
            ),
        ),
        ExpiringLog(
            table(Attempt),
            (attempt.id,),
            EVENTS,
            Owned(attempt.merchant_id, (attempt.id,)),
            _owed(Delivery.id == attempt.delivery_id),
            bound=request_id_at,
        ),
        ExpiringLog(
            table(Delivery),
            (delivery.created_at, delivery.id),
            EVENTS,
            Owned(delivery.webhook_id, (delivery.created_at, delivery.id)),
            delivery.state == PENDING_LITERAL,
        ),
        ExpiringLog(
            table(Event),
            (event.received_at, event.merchant_id, event.id),
            EVENTS,
            Owned(event.merchant_id, (event.received_at, event.id)),
            _owed(Delivery.merchant_id == event.merchant_id, Delivery.event_id == event.id),
        ),
    )


def _beside() -> tuple[ExpiringLog, ...]:
    count, attempts = table(EventCount).c, table(AttemptCount).c
    return (
        # An hour goes when its last moment has gone.
        *(
            ExpiringLog(
                counts,
                key,
                EVENTS,
                Owned(counts.c.merchant_id, key),
                bound=lambda moment: moment - HOUR + 1,
                is_by_merchant_alone=True,
            )
            for counts, key in (
                (table(EventCount), (count.starts_at,)),
                (table(AttemptCount), (attempts.starts_at, attempts.webhook_id, attempts.took)),
            )
        ),
        ExpiringLog(
            table(IdempotencyKey),
            (table(IdempotencyKey).c.created_at,),
            IdempotencyKey.KEPT,
            bound=lambda moment: moment + 1,
        ),
        ExpiringLog(
            table(InspectedRequest),
            (table(InspectedRequest).c.id,),
            inspector.KEPT_FOR,
            bound=inspector.id_at,
        ),
    )


LOGS = _logs()
"""What the two periods are of, in the order of deleting: what a row belongs to goes after it."""
ALL_LOGS = LOGS + _beside()


class Periods:
    """Before which moment (Unix µs) rows are past their days, as seen at a moment."""

    def __init__(self, moment: int):
        config = current_app.config["PORTAL"]
        self._moment = moment
        self._default: dict[str, int] = {
            EVENTS: moment - config.event_days * DAY,
            PAYLOADS: moment - config.payload_days * DAY,
        }
        with reading() as session:
            self._merchants = session.execute(
                sa.select(
                    Merchant.id,
                    Merchant.event_days.label(EVENTS),
                    Merchant.payload_days.label(PAYLOADS),
                ).order_by(Merchant.id)
            ).all()

    def default(self, period: str) -> int:
        """The moment for merchants without periods of their own."""
        return self._default[period]

    def oldest(self, period: str | int) -> int:
        """The moment before which rows are past everybody's days."""
        if isinstance(period, int):
            return self._moment - period
        return min([self._default[period], *(bound for _, bound in self.of_merchants(period))])

    def of_merchants(self, period: str | int) -> list[tuple[int, int]]:
        """Each merchant's ID and moment, by ID; none where one time holds for everybody."""
        if isinstance(period, int):
            return []
        return [
            (merchant.id, self._default[period] if days is None else self._moment - days * DAY)
            for merchant in self._merchants
            for days in (merchant._mapping[period],)
        ]


@dataclass(frozen=True)
class Walk:
    """One way along a log, from `since` (its beginning, if None) to what is not less than `before`;
    of one owner's rows where `mark` names one. Marks rise from walk to walk."""

    log: ExpiringLog
    mark: Mark
    since: Any | None
    before: Any
    owner: Any | None = None

    @property
    def key(self) -> tuple[sa.Column[Any], ...]:
        """The columns by which it goes."""
        return self.log.owned.key if self.owner is not None and self.log.owned else self.log.key

    def look(self, after: Sequence[Any] | None, rows: int) -> sa.Select[Any]:
        """The keys of so many rows that come next `after` a key, and whether each is kept."""
        kept = sa.false() if self.log.keep is None else self.log.keep
        query = (
            sa.select(*self.key, kept.label("is_kept"))
            .where(*self._owners(), self.key[0] < self.before)
            .order_by(*self.key)
            .limit(rows)
        )
        # One lower bound alone: of two a planner may take the one that is further away.
        if after is not None:
            return query.where(sa.tuple_(*self.key) > tuple(after))
        return query if self.since is None else query.where(self.key[0] >= self.since)

    def remove(self, session: Session, first: Key, last: Key) -> int:
        """Delete what lies from one key to another, but for what is kept, and count it no more as
        stored; how many rows. Inside the running transaction."""
        for statement in self.removal(session.get_bind().dialect.name, first, last):
            found = session.execute(statement)
        part = sizes.part_of(self.log.table)
        if part is None:
            return int(found.rowcount)  # type: ignore[attr-defined]
        gone = [tuple(row) for row in found]
        sizes.take_off(session, part, gone)
        return len(gone)

    def removal(self, dialect: str, first: Key, last: Key) -> list[sa.Executable]:
        """The statements that delete it."""
        where = [*self._owners(), sa.tuple_(*self.key) >= first, sa.tuple_(*self.key) <= last]
        delete = sa.delete(self.log.table).where(*where)
        part = sizes.part_of(self.log.table)
        if part is not None:
            # What is not known before: on PostgreSQL a row may have become one to keep.
            delete = cast(sa.Delete, delete.returning(*sizes.of_deleted(part, dialect)))
        if self.log.keep is None:
            return [delete]
        # Asked again: a delivery may have become pending since the look.
        delete = delete.where(sa.not_(self.log.keep))
        if dialect == "sqlite":
            return [delete]
        # Who makes one pending at this moment holds its event's payload (portal.delivery.actions).
        # The delete waits for that transaction first, and sees what it did.
        return [sa.select(*self.key).where(*where).with_for_update(), delete]

    def _owners(self) -> list[sa.ColumnElement[bool]]:
        if self.owner is None or self.log.owned is None:
            return []
        return [self.log.owned.column == self.owner]


def walks(
    periods: Periods, logs: Sequence[ExpiringLog] = ALL_LOGS, start: Mark = FIRST
) -> Iterator[Walk]:
    """Every walk of a clean-up in order, from the one with the mark `start` on; what lies before
    it costs no query."""
    for number, log in enumerate(logs):
        if number < start[0]:
            continue
        _, merchant_id, owner = start if number == start[0] else (number, 0, "")
        oldest = periods.oldest(log.period)
        if not log.is_by_merchant_alone and merchant_id == 0:
            yield Walk(log, (number, 0, ""), None, log.bound(oldest))
        since = None if log.is_by_merchant_alone else log.bound(oldest)
        bounds = {
            merchant: bound
            for merchant, bound in periods.of_merchants(log.period)
            if log.is_by_merchant_alone or bound > oldest
        }
        for merchant, whose in _owners(log, bounds, merchant_id, owner):
            mark = (number, merchant, str(whose))
            yield Walk(log, mark, since, log.bound(bounds[merchant]), whose)


def _owners(
    log: ExpiringLog, merchants: Collection[int], merchant_id: int, owner: str
) -> Iterator[tuple[int, Any]]:
    """Whose rows, as the log names it, are these merchants': each merchant and owner in order,
    from one merchant's owner on."""
    if log.owned is None or log.owned.column.name != "webhook_id":
        yield from ((merchant, merchant) for merchant in merchants if merchant >= merchant_id)
        return
    position: tuple[int, str] | None = (merchant_id, owner)
    while merchants and position is not None:
        found = _webhooks_from(*position)
        yield from (pair for pair in found[:PAGE] if pair[0] in merchants)
        position = found[PAGE] if len(found) > PAGE else None


def _webhooks_from(merchant_id: int, webhook_id: str) -> list[tuple[int, str]]:
    """The merchants and IDs of a page of webhooks, and of the one that the next page begins with.
    In the database's order of IDs, which need not be Python's."""
    with reading() as session:
        found = session.execute(
            sa.select(Webhook.merchant_id, Webhook.id)
            .where(
                Webhook.merchant_id >= merchant_id,
                sa.or_(Webhook.merchant_id > merchant_id, Webhook.id >= webhook_id),
            )
            .order_by(Webhook.merchant_id, Webhook.id)
            .limit(PAGE + 1)
        )
        return [(row.merchant_id, row.id) for row in found]
