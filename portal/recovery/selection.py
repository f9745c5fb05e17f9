"""Which deliveries a recovery takes: what failed or is held, narrowed by filters.

Each part of them is walked by an index that holds nothing else, so that neither counting nor
working grows with the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal.db.session import db, table
from portal.errors import FieldError, Invalid
from portal.models import Attempt, Delivery, Event, EventPayload, Recovery, Webhook
from portal.models.delivery import FAILED, FAILED_LITERAL, HELD, PENDING_LITERAL, TEST
from portal.models.recovery import SEND

COUNTED = 1_000
"""Deliveries that are counted before a recovery is started; more are shown as 1,000+."""
LOOKED_THROUGH = 10_000
"""Failed or held deliveries that are looked through for those."""

_delivery, _attempt = table(Delivery), table(Attempt)


@dataclass(frozen=True)
class Selection:
    """What to take: `states` of failed and held; moments in Unix µs, `before` exclusive.

    `since` and `before` are about when a delivery failed, or when what is held came in.
    `filters` may have `type` (exact, `order.*` or `*`), and `error` and `status` (`502`, `5xx`,
    `none`) of the last attempt. Raises Invalid for what cannot be.
    """

    action: str
    states: tuple[str, ...]
    webhook_id: str | None = None
    since: int | None = None
    before: int | None = None
    filters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.states or set(self.states) - {FAILED, HELD}:
            raise Invalid([FieldError("/state", "State is failed or held.")])
        if self.action != SEND and self.states != (HELD,):
            raise Invalid(
                [
                    FieldError(
                        "/state", "Only what is held can be discarded; what failed is over already."
                    )
                ]
            )
        if self.action == SEND and HELD in self.states and self.filters:
            name = next(iter(self.filters))
            raise Invalid(
                [
                    FieldError(
                        f"/{name}",
                        "What is held is sent webhook by webhook, all of it; leave type, "
                        "error and status empty, or discard by them.",
                    )
                ]
            )

    @classmethod
    def of(cls, recovery: Recovery) -> Selection:
        """What a stored recovery takes."""
        return cls(
            recovery.action,
            tuple(recovery.states),
            recovery.webhook_id,
            recovery.since,
            recovery.before,
            recovery.filters,
        )


@dataclass(frozen=True)
class IndexedPart:
    """Deliveries of one state that an index holds in the order of (`key`, ID)."""

    state: str
    condition: sa.ColumnElement[bool]
    key: sa.Column[Any]


_FAILED = IndexedPart(FAILED, _delivery.c.state == FAILED_LITERAL, _delivery.c.finished_at)
_HELD_FIRST, _HELD_RETRIES = (
    IndexedPart(
        HELD,
        sa.and_(_delivery.c.state == PENDING_LITERAL, _delivery.c.is_retry == is_retry),
        _delivery.c.next_attempt_at,
    )
    for is_retry in (False, True)
)
PARTS = (_FAILED, _HELD_FIRST, _HELD_RETRIES)


@dataclass(frozen=True)
class Count:
    """How many, counted up to COUNTED; `is_exact` unless there may be more."""

    number: int
    is_exact: bool


def webhooks(merchant_id: int, wanted: Selection) -> sa.Select[Webhook]:
    """The webhooks whose deliveries are taken, in the order of their IDs: those that send, or
    for discarding those that hold."""
    query = (
        sa.select(Webhook)
        .where(Webhook.merchant_id == merchant_id, Webhook.deleted_at.is_(None))
        .order_by(Webhook.id)
    )
    if wanted.webhook_id is not None:
        query = query.where(Webhook.id == wanted.webhook_id)
    if wanted.action == SEND:
        return query.where(Webhook.enabled)
    return query.where(sa.or_(~Webhook.enabled, Webhook.held_at.is_not(None)))


def has_part(part: IndexedPart, wanted: Selection, webhook: Webhook) -> bool:
    """Whether a webhook has deliveries of this part to take."""
    return part.state in wanted.states and (part.state == FAILED or webhook.holds)


def rows(part: IndexedPart, wanted: Selection, webhook: Webhook) -> sa.Select[Any]:
    """A part's deliveries of a webhook that the period may hold: their keys and IDs, and as
    `is_wanted` whether all filters take them."""
    query = sa.select(part.key.label("key"), _delivery.c.id, _is_wanted(part, wanted)).where(
        _delivery.c.webhook_id == webhook.id, part.condition
    )
    if part.state == FAILED and wanted.since is not None:
        query = query.where(part.key >= wanted.since)
    if part.state == FAILED and wanted.before is not None:
        query = query.where(part.key < wanted.before)
    return query


def _is_wanted(part: IndexedPart, wanted: Selection) -> sa.Label[bool]:
    row = _delivery.c
    terms: list[sa.ColumnElement[bool]] = []
    if part.state == FAILED:
        # A test is sent once and by hand; what has no record data any more cannot be sent.
        terms = [
            row.trigger != TEST,
            sa.exists().where(
                EventPayload.merchant_id == row.merchant_id, EventPayload.event_id == row.event_id
            ),
        ]
    elif wanted.action != SEND:
        if wanted.since is not None:
            terms.append(row.created_at >= wanted.since)
        if wanted.before is not None:
            terms.append(row.created_at < wanted.before)
    kind = wanted.filters.get("type", "*")
    if kind != "*":
        is_kind = (
            Event.type.startswith(kind[:-1], autoescape=True)
            if kind.endswith(".*")
            else Event.type == kind
        )
        terms.append(
            sa.exists().where(
                Event.merchant_id == row.merchant_id, Event.id == row.event_id, is_kind
            )
        )
    last = _last_attempt(wanted.filters)
    if last is not None:
        terms.append(last)
    return sa.and_(sa.true(), *terms).label("is_wanted")


def _last_attempt(filters: Mapping[str, str]) -> sa.ColumnElement[bool] | None:
    tried = _attempt.alias("tried")
    terms = [*status_is(tried.c.status, filters.get("status", ""))]
    if "error" in filters:
        terms.append(tried.c.error == filters["error"])
    if not terms:
        return None
    newest = (
        sa.select(sa.func.max(_attempt.c.id))
        .where(_attempt.c.delivery_id == _delivery.c.id)
        .correlate(_delivery)
        .scalar_subquery()
    )
    return sa.exists().where(tried.c.id == newest, *terms)


def status_is(column: sa.ColumnElement[Any], status: str) -> list[sa.ColumnElement[bool]]:
    """The conditions that a status is as a filter says: `502`, `5xx`, `none`, or empty for any."""
    if not status:
        return []
    if status == "none":
        return [column.is_(None)]
    if status.endswith("xx"):
        first = int(status[0]) * 100
        return [column >= first, column < first + 100]
    return [column == int(status)]


def count(merchant_id: int, wanted: Selection) -> Count:
    """How many deliveries a recovery would take, within COUNTED and LOOKED_THROUGH."""
    number, look = 0, LOOKED_THROUGH
    for webhook in db.session.scalars(webhooks(merchant_id, wanted)).all():
        for part in PARTS:
            if not has_part(part, wanted, webhook):
                continue
            seen = rows(part, wanted, webhook).limit(look).subquery()
            looked, found = db.session.execute(
                sa.select(sa.func.count(), _sum(seen.c.is_wanted))
            ).one()
            number, look = number + found, look - looked
            if number > COUNTED or look <= 0:
                return Count(min(number, COUNTED), is_exact=False)
    return Count(number, is_exact=True)


def count_all(
    session: scoped_session[Any], part: IndexedPart, wanted: Selection, webhook: Webhook
) -> int:
    """How many deliveries of a part of a webhook there are to take, however many."""
    every = rows(part, wanted, webhook).subquery()
    return session.scalar(sa.select(_sum(every.c.is_wanted))) or 0


def _sum(flag: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((flag, 1), else_=0)), 0)
