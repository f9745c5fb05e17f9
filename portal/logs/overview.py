"""What the first page of a merchant shows: notices, first steps, today, what needs attention.

Every number is bounded: a log is never counted to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from portal.clock import DAY, now
from portal.errors import NotFound
from portal.extensions import db, writing
from portal.models import ApiKey, Attempt, Delivery, Event, Merchant, Notice, Webhook

CAP = 1_000
"""Counts stop here; pages show `1,000+`."""
RECENT_ATTEMPTS = 8
NOTICES = 20


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
    """All that the first page shows of one merchant."""

    notices: list[Notice]
    steps: Steps
    since: int
    events: int
    deliveries: dict[str, int]
    attempts: list[Attempt]
    webhooks: dict[str, Webhook]
    attention: list[Webhook]


def overview(merchant_id: int) -> Overview:
    """The state of a merchant; counts are of the current day (UTC) and end at CAP."""
    moment = now()
    since = moment - moment % DAY
    webhooks = {
        webhook.id: webhook
        for webhook in db.session.scalars(
            db.select(Webhook)
            .where(Webhook.merchant_id == merchant_id)
            .order_by(Webhook.created_at.desc())
        )
    }
    return Overview(
        notices=open_notices(merchant_id),
        steps=_steps(merchant_id, webhooks),
        since=since,
        events=_capped(
            db.select(Event.id).where(
                Event.merchant_id == merchant_id, Event.received_at >= since
            )
        ),
        deliveries=_deliveries(webhooks, since),
        attempts=list(
            db.session.scalars(
                db.select(Attempt)
                .where(Attempt.merchant_id == merchant_id)
                .order_by(Attempt.id.desc())
                .limit(RECENT_ATTEMPTS)
            )
        ),
        webhooks=webhooks,
        attention=[
            webhook
            for webhook in webhooks.values()
            if webhook.state in ("failing", "held")
            or (webhook.state == "disabled" and webhook.failing_since)
        ],
    )


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


def dismiss_notice(merchant: Merchant, notice_id: int) -> None:
    """Take a notice off the merchant's page. Raises NotFound when it is not the merchant's."""
    merchant_id = merchant.id
    with writing() as session:
        notice = session.get(Notice, notice_id)
        if notice is None or notice.merchant_id != merchant_id:
            raise NotFound("There is no such notice.")
        notice.dismissed_at = notice.dismissed_at or now()


def _steps(merchant_id: int, webhooks: dict[str, Webhook]) -> Steps:
    def any_of(statement: sa.Select) -> bool:
        return db.session.scalar(statement.limit(1)) is not None

    return Steps(
        webhook=any(webhook.deleted_at is None for webhook in webhooks.values()),
        key=any_of(
            db.select(ApiKey.id).where(
                ApiKey.merchant_id == merchant_id, ApiKey.revoked_at.is_(None),
                ApiKey.scope == "write",
            )
        ),
        event=any_of(db.select(Event.id).where(Event.merchant_id == merchant_id)),
    )


def _deliveries(webhooks: dict[str, Webhook], since: int) -> dict[str, int]:
    """Today's deliveries by state, of the newest CAP of each webhook.

    What a held or disabled webhook still owes is pending in the database and held for people.
    """
    counts = dict.fromkeys(("succeeded", "failed", "pending", "held"), 0)
    for webhook_id, webhook in webhooks.items():
        newest = (
            db.select(Delivery.state)
            .where(Delivery.webhook_id == webhook_id, Delivery.created_at >= since)
            .order_by(Delivery.created_at.desc())
            .limit(CAP)
            .subquery()
        )
        for state, count in db.session.execute(
            db.select(newest.c.state, db.func.count()).group_by(newest.c.state)
        ):
            if state == "pending" and webhook.state in ("held", "disabled"):
                state = "held"
            if state in counts:
                counts[state] += count
    return counts


def _capped(rows: sa.Select) -> int:
    part = rows.limit(CAP).subquery()
    return db.session.scalar(db.select(db.func.count()).select_from(part)) or 0
