"""What a merchant should look at: webhooks in trouble, certificates that end, and silence where
there is a habit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import sqlalchemy as sa

from portal.clock import DAY, HOUR, now
from portal.db.session import db
from portal.ids import request_id_at
from portal.models import Attempt, AttemptCount, Delivery, Event, EventCount, Webhook
from portal.models.delivery import PENDING_LITERAL

CAP = 1_000
"""What waits is counted up to here, per webhook; pages show `1,000+`."""
QUIET_HOURS = 3
"""A silence shorter than this is none."""
BUSY_HOURS = 24
"""What was busy in fewer hours of a week has no habit that it could break."""
LOOKED_BACK = 9 * DAY
"""How old the last sign of life may be: what was silent for longer is no news."""
HELD, FAILING, DISABLED, SILENT = "held", "failing", "disabled", "silent"
CERTIFICATE = "certificate"
_ORDER = (HELD, DISABLED, FAILING, CERTIFICATE, SILENT)


@dataclass(frozen=True)
class Concern:
    """Something to look at, since a moment (Unix µs; of a certificate its end, `over` or not).
    `webhook` is None where no event comes at all; `waiting` is how many deliveries wait, up to
    CAP."""

    kind: str
    webhook: Webhook | None
    since: int | None
    waiting: int = 0
    over: bool = False


def concerns(
    merchant_id: int, webhooks: Mapping[str, Webhook], waiting: Mapping[str, int]
) -> list[Concern]:
    """What needs attention, the worst first. `webhooks` by ID, and what each of them still owes.

    A webhook that a person disabled needs none: they know. One that the portal disabled does.
    """
    found = [
        Concern(webhook.state, webhook, _since(webhook), waiting.get(webhook.id, 0))
        for webhook in webhooks.values()
        if webhook.state in (HELD, FAILING) or (webhook.state == DISABLED and webhook.failing_since)
    ]
    moment = now()
    found += [
        Concern(CERTIFICATE, webhook, end, over=end <= moment)
        for webhook in webhooks.values()
        if webhook.enabled and (end := webhook.certificate_ending(moment)) is not None
    ]
    found += _silences(merchant_id, webhooks)
    return sorted(found, key=lambda concern: (_ORDER.index(concern.kind), concern.since or 0))


def waiting(merchant_id: int) -> dict[str, int]:
    """How many deliveries each webhook of a merchant still owes, counted up to CAP."""
    few = (
        sa.select(sa.literal_column("1"))
        .where(
            Delivery.webhook_id == Webhook.id,
            Delivery.state == PENDING_LITERAL,
            # Says nothing, but has SQLite take the index of pending rows and not that of the log.
            Delivery.is_retry.in_([False, True]),
        )
        .limit(CAP)
        .correlate(Webhook)
        .subquery()
    )
    count = sa.select(sa.func.count()).select_from(few).scalar_subquery()
    rows = db.session.execute(
        sa.select(Webhook.id, count).where(
            Webhook.merchant_id == merchant_id, Webhook.deleted_at.is_(None)
        )
    )
    return {webhook_id: number for webhook_id, number in rows if number}


def quiet_since(hours: set[int], moment: int) -> int | None:
    """Since when (Unix µs) what was busy in these hours (their starts) has been strangely quiet
    at `moment`, or None. Pure.

    Strange is a silence of QUIET_HOURS at least that is twice as long as any in the week before
    it: so nights and weekends are not.
    """
    if not hours:
        return None
    last = max(hours)
    week = sorted(hour for hour in hours if hour > last - 7 * DAY)
    if len(week) < BUSY_HOURS:
        return None
    usual = max(after - before - HOUR for before, after in pairwise(week))
    silence = moment - moment % HOUR - last - HOUR
    return last + HOUR if silence >= max(QUIET_HOURS * HOUR, 2 * usual + HOUR) else None


def _since(webhook: Webhook) -> int | None:
    if webhook.state == DISABLED:
        return webhook.disabled_at
    return webhook.held_at if webhook.state == HELD else webhook.failing_since


def _silences(merchant_id: int, webhooks: Mapping[str, Webhook]) -> list[Concern]:
    moment = now()
    hours = db.session.scalars(
        sa.select(EventCount.starts_at).where(
            EventCount.merchant_id == merchant_id, EventCount.starts_at >= moment - LOOKED_BACK
        )
    )
    nothing_since = quiet_since(set(hours), moment)
    if nothing_since is not None and not _has_event_since(merchant_id, nothing_since):
        # Then no webhook can have had anything to send.
        return [Concern(SILENT, None, nothing_since)]
    found = []
    for webhook_id in _quiet_webhooks(merchant_id, moment):
        webhook = webhooks.get(webhook_id)
        if webhook is None or webhook.state != "enabled":
            continue
        since = quiet_since(_active_hours(webhook, moment - LOOKED_BACK), moment)
        if since is not None and not _has_attempt_since(webhook, since):
            found.append(Concern(SILENT, webhook, since))
    return found


def _quiet_webhooks(merchant_id: int, moment: int) -> list[str]:
    """Webhooks that had attempts and now none for QUIET_HOURS: few, so that only their hours are
    read."""
    last = (
        sa.select(sa.func.max(AttemptCount.starts_at))
        .where(AttemptCount.merchant_id == merchant_id, AttemptCount.webhook_id == Webhook.id)
        .correlate(Webhook)
        .scalar_subquery()
    )
    return [
        webhook_id
        for webhook_id, starts_at in db.session.execute(
            sa.select(Webhook.id, last).where(
                Webhook.merchant_id == merchant_id, Webhook.deleted_at.is_(None)
            )
        )
        if starts_at is not None and moment - LOOKED_BACK < starts_at < moment - QUIET_HOURS * HOUR
    ]


def _active_hours(webhook: Webhook, since: int) -> set[int]:
    """The hours in which a webhook had attempts, as far as they are counted."""
    return set(
        db.session.scalars(
            sa.select(AttemptCount.starts_at).where(
                AttemptCount.merchant_id == webhook.merchant_id,
                AttemptCount.webhook_id == webhook.id,
                AttemptCount.starts_at >= since,
            )
        )
    )


def _has_event_since(merchant_id: int, moment: int) -> bool:
    """Whether the log has one that is not counted yet."""
    return (
        db.session.scalar(
            sa.select(Event.id)
            .where(Event.merchant_id == merchant_id, Event.received_at >= moment)
            .limit(1)
        )
        is not None
    )


def _has_attempt_since(webhook: Webhook, moment: int) -> bool:
    return (
        db.session.scalar(
            sa.select(Attempt.id)
            .where(Attempt.webhook_id == webhook.id, Attempt.id >= request_id_at(moment))
            .limit(1)
        )
        is not None
    )
