"""5 RETENTION: delete what is past its days, in batches, never what is still owed.

Events and header logs are kept PORTAL_EVENT_DAYS, payload logs and record data
PORTAL_PAYLOAD_DAYS; a merchant may have periods of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import current_app

from portal.clock import DAY, MILLISECOND, iso, now
from portal.extensions import reading, writing
from portal.logs import counting, inspector
from portal.models import (
    Attempt,
    AttemptPayload,
    Delivery,
    Event,
    EventPayload,
    Merchant,
    OperationsEntry,
)
from portal.models.delivery import PENDING_LITERAL
from portal.people import idempotency

BATCH = 500
"""Rows deleted in one transaction: a few milliseconds of the write lock."""
REST_SECONDS = 0.02
"""Pause between batches, in which ingest and workers write."""

_owed = sa.exists().where(Delivery.state == PENDING_LITERAL)


@dataclass(frozen=True)
class _Rule:
    """One table to clean. `key` starts with what sorts by age; `age` reads it, in Unix µs."""

    table: sa.Table
    key: tuple[sa.Column[Any], ...]
    age: Callable[[Any], int]
    bound: Callable[[int], Any]
    keep: sa.ColumnElement[bool] | None
    is_payload: bool


def _table(model: Any) -> sa.Table:
    table: sa.Table = model.__table__
    return table


def first_request_id(moment: int) -> str:
    """What every Request ID made at or after a moment (Unix µs) is not less than: a UUIDv7
    starts with its Unix milliseconds (RFC 9562 §5.7)."""
    return f"req_{moment // MILLISECOND:012x}"


def _age_of_request_id(request_id: str) -> int:
    return int(request_id[4:16], 16) * MILLISECOND


def _rules() -> list[_Rule]:
    attempt, attempt_payload = _table(Attempt), _table(AttemptPayload)
    event, event_payload, delivery = _table(Event), _table(EventPayload), _table(Delivery)

    def itself(moment: int) -> int:
        return moment

    return [
        _Rule(
            attempt_payload, (attempt_payload.c.attempt_id,), _age_of_request_id,
            first_request_id, None, is_payload=True,
        ),
        _Rule(
            event_payload,
            (event_payload.c.received_at, event_payload.c.merchant_id, event_payload.c.event_id),
            itself, itself,
            _owed.where(
                Delivery.merchant_id == event_payload.c.merchant_id,
                Delivery.event_id == event_payload.c.event_id,
            ),
            is_payload=True,
        ),
        _Rule(
            attempt, (attempt.c.id,), _age_of_request_id, first_request_id,
            _owed.where(Delivery.id == attempt.c.delivery_id), is_payload=False,
        ),
        _Rule(
            delivery, (delivery.c.created_at, delivery.c.id), itself, itself,
            delivery.c.state == PENDING_LITERAL, is_payload=False,
        ),
        _Rule(
            event, (event.c.received_at, event.c.merchant_id, event.c.id), itself, itself,
            _owed.where(
                Delivery.merchant_id == event.c.merchant_id, Delivery.event_id == event.c.id
            ),
            is_payload=False,
        ),
    ]


def purge_expired(*, dry_run: bool = False, moment: int | None = None) -> dict[str, int]:
    """Delete what is past its days at `moment` (Unix µs, default now); rows per table.

    Killed in the middle, it goes on from there the next time. What a pending delivery needs is
    kept however old it is. `dry_run` counts and deletes nothing. One line of what was removed
    goes into the operations log.
    """
    moment = now() if moment is None else moment
    started = time.monotonic()
    periods = _Periods(moment)
    removed = {rule.table.name: _clean(rule, periods, dry_run) for rule in _rules()}
    if not dry_run:
        idempotency.forget_expired(moment)
        counting.forget(lambda merchant_id: periods.of(merchant_id, False))
        inspector.forget(moment)
        message = ", ".join(f"{count:,} of {name}" for name, count in removed.items())
        seconds = time.monotonic() - started
        with writing() as session:
            session.add(
                OperationsEntry(
                    kind="retention",
                    message=f"Removed {message} in {seconds:.1f} s. Events before "
                    f"{iso(periods.default(False))} and payloads before "
                    f"{iso(periods.default(True))} are past their days.",
                )
            )
    return removed


class _Periods:
    """Before which moment each merchant's rows are past their days."""

    def __init__(self, moment: int):
        config = current_app.config["PORTAL"]
        self._days = {False: config.event_days, True: config.payload_days}
        self._moment = moment
        self._own: dict[bool, dict[int, int]] = {False: {}, True: {}}
        with reading() as session:
            for merchant in session.execute(
                sa.select(Merchant.id, Merchant.event_days, Merchant.payload_days)
            ):
                if merchant.event_days is not None:
                    self._own[False][merchant.id] = moment - merchant.event_days * DAY
                if merchant.payload_days is not None:
                    self._own[True][merchant.id] = moment - merchant.payload_days * DAY

    def default(self, is_payload: bool) -> int:
        """The moment for merchants without periods of their own."""
        return int(self._moment - self._days[is_payload] * DAY)

    def youngest(self, is_payload: bool) -> int:
        """The moment from which nobody's rows are past their days."""
        return max([self.default(is_payload), *self._own[is_payload].values()])

    def of(self, merchant_id: int, is_payload: bool) -> int:
        """The moment for one merchant."""
        return self._own[is_payload].get(merchant_id, self.default(is_payload))


def _clean(rule: _Rule, periods: _Periods, dry_run: bool) -> int:
    """One walk along the table by age; how many rows were past their days."""
    removed = 0
    place: tuple[Any, ...] | None = None
    bound = rule.bound(periods.youngest(rule.is_payload))
    while True:
        query = (
            sa.select(rule.table.c.merchant_id.label("merchant"), *rule.key)
            .where(rule.key[0] < bound)
            .order_by(*rule.key)
            .limit(BATCH)
        )
        if rule.keep is not None:
            query = query.where(sa.not_(rule.keep))
        if place is not None:
            query = query.where(sa.tuple_(*rule.key) > place)
        with reading() as session:
            rows = session.execute(query).all()
        expired = [
            tuple(row)[1:]
            for row in rows
            if rule.age(row[1]) < periods.of(row.merchant, rule.is_payload)
        ]
        removed += len(expired) if dry_run else _delete(rule, expired)
        if len(rows) < BATCH:
            return removed
        place = tuple(rows[-1])[1:]
        if not dry_run:
            time.sleep(REST_SECONDS)


def _delete(rule: _Rule, keys: list[tuple[Any, ...]]) -> int:
    if not keys:
        return 0
    delete = sa.delete(rule.table).where(sa.tuple_(*rule.key).in_(keys))
    if rule.keep is not None:
        # Asked again: a delivery may have become pending since the look.
        delete = delete.where(sa.not_(rule.keep))
    with writing() as session:
        return int(session.execute(delete).rowcount)  # type: ignore[attr-defined]
