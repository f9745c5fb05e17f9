"""What the first page of a merchant and its list of webhooks show.

Every number is bounded: a log is never counted to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from portal.clock import now
from portal.counts import attention, statistics
from portal.counts.attention import Concern
from portal.counts.statistics import History, Point, Span, Tally
from portal.db.session import db, writing
from portal.errors import NotFound
from portal.models import ApiKey, Attempt, Event, Notice, Webhook
from portal.webhooks import setup

RECENT_ATTEMPTS = 8
NOTICES = 20
NEWEST, NAME, STATE = SORTS = ("newest", "name", "state")
_WORST_FIRST = ("held", "disabled", "failing", "enabled")


@dataclass(frozen=True)
class Steps:
    """Which of the first steps are done."""

    webhook: bool
    key: bool
    event: bool

    @property
    def done(self) -> bool:
        """Whether nothing of it is left."""
        return self.webhook and self.key and self.event


@dataclass(frozen=True)
class Overview:
    """All that the first page shows of one merchant. `pending` and `held` are what is owed now,
    each webhook's counted up to attention.CAP."""

    notices: list[Notice]
    steps: Steps
    history: History
    pending: int
    held: int
    attempts: list[Attempt]
    webhooks: dict[str, Webhook]
    concerns: list[Concern]


@dataclass(frozen=True)
class WebhookRow:
    """A webhook in the list: its last 24 hours, hour by hour and together, its last attempt, and
    how many deliveries wait (up to attention.CAP)."""

    webhook: Webhook
    points: list[Point]
    total: Tally
    last: Attempt | None
    waiting: int


def overview(merchant_id: int, span: Span) -> Overview:
    """The state of a merchant now, and how it has been in a span."""
    webhooks = {
        webhook.id: webhook
        for webhook in db.session.scalars(
            db.select(Webhook)
            .where(Webhook.merchant_id == merchant_id)
            .order_by(Webhook.created_at.desc())
        )
    }
    waiting = attention.waiting(merchant_id)
    held = sum(count for webhook_id, count in waiting.items() if webhooks[webhook_id].holds)
    return Overview(
        notices=open_notices(merchant_id),
        steps=_steps(merchant_id, webhooks),
        history=statistics.history(merchant_id, span),
        pending=sum(waiting.values()) - held,
        held=held,
        attempts=list(
            db.session.scalars(
                db.select(Attempt)
                .where(Attempt.merchant_id == merchant_id)
                .order_by(Attempt.id.desc())
                .limit(RECENT_ATTEMPTS)
            )
        ),
        webhooks=webhooks,
        concerns=attention.concerns(merchant_id, webhooks, waiting),
    )


def webhook_rows(merchant_id: int, sort: str = NEWEST, search: str = "") -> list[WebhookRow]:
    """A merchant's webhooks whose name, URL or events hold every word of `search`, sorted: the
    newest first, by name, or what needs attention first."""
    words = search.casefold().split()
    points = statistics.by_webhook(merchant_id)
    waiting = attention.waiting(merchant_id)
    last = setup.last_attempts(merchant_id)
    found = [
        webhook
        for webhook in setup.list_webhooks(merchant_id)
        if all(
            word in f"{webhook.description} {webhook.url} {' '.join(webhook.events)}".casefold()
            for word in words
        )
    ]
    if sort in (NAME, STATE):
        found.sort(key=lambda webhook: (webhook.description or webhook.url).casefold())
    if sort == STATE:
        found.sort(key=lambda webhook: _WORST_FIRST.index(webhook.state))
    return [
        WebhookRow(
            webhook,
            points.get(webhook.id, []),
            statistics.sum_of(points.get(webhook.id, [])),
            last.get(webhook.id),
            waiting.get(webhook.id, 0),
        )
        for webhook in found
    ]


def open_notices(merchant_id: int) -> list[Notice]:
    """What the merchant must be told and nobody has dismissed, newest first."""
    return list(
        db.session.scalars(
            db.select(Notice)
            .where(Notice.merchant_id == merchant_id, Notice.dismissed_at.is_(None))
            .order_by(Notice.at.desc())
            .limit(NOTICES)
        )
    )


def dismiss_notice(merchant_id: int, notice_id: int) -> None:
    """Take a notice off the merchant's page. Raises NotFound when it is not the merchant's."""
    with writing() as session:
        notice = session.get(Notice, notice_id)
        if notice is None or notice.merchant_id != merchant_id:
            raise NotFound("There is no such notice.")
        notice.dismissed_at = notice.dismissed_at or now()


def _steps(merchant_id: int, webhooks: dict[str, Webhook]) -> Steps:
    def any_of(statement: sa.Select[Any]) -> bool:
        return db.session.scalar(statement.limit(1)) is not None

    return Steps(
        webhook=any(webhook.deleted_at is None for webhook in webhooks.values()),
        key=any_of(
            db.select(ApiKey.id).where(
                ApiKey.merchant_id == merchant_id,
                ApiKey.revoked_at.is_(None),
                ApiKey.scope == "write",
            )
        ),
        event=any_of(db.select(Event.id).where(Event.merchant_id == merchant_id)),
    )
