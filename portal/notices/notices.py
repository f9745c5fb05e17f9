"""Notices about webhooks: shown in the portal until someone dismisses them, and mailed to those who
want that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import scoped_session

from portal import clock_watch
from portal.audit.log import record
from portal.clock import DAY, MINUTE, now, readable
from portal.config import Config
from portal.db.session import db, writing
from portal.models import Merchant, Notice, Webhook
from portal.models.webhook import ENDS_SOON
from portal.notices import gathering, mail

REFUSED = "refused"
OF_FAILURES = ("held", REFUSED, "ending")
"""Kinds which say that a webhook is failing, so that "recovered" must follow once it works
again."""
REFUSED_FOR = 5 * MINUTE
"""How long a webhook whose receiver responds must have failed before people are told: that a single
event, or many of one kind at once, are refused says nothing about the receiver."""
_HEADLINES: Mapping[str, str] = {
    "held": "deliveries are held",
    "refused": "everything is refused",
    "ending": "will be disabled",
    "disabled": "is disabled",
    "recovered": "works again",
    "certificate": "its target’s certificate ends",
    "client_certificate": "its client certificate ends",
}
_CERTIFICATES = ("certificate", "client_certificate")
"""Notices of ends, which stand beside one that the webhook is failing, and do not replace it."""
_OF_HEALTH = Notice.kind.not_in(_CERTIFICATES)
WARNED_BEFORE = DAY
TOLD_AT_ONCE = 100
"""Webhooks that get a notice in one transaction; the others get theirs the next time."""
KEPT_AFTER = 2 * DAY
"""How long the notices of a webhook that has recovered are kept after newer ones replaced them."""


def refused(failures: int, failing_since: int | None, config: Config) -> str:
    """The text about a webhook whose receiver responds, but accepts nothing."""
    until = (failing_since or now()) + config.disable_after_days * DAY
    return (
        f"The last {failures:,} attempts failed, though somebody answers there. Deliveries go on "
        f"by their retry schedules and fail for good at their end; look at what is answered. "
        f"Unless one succeeds, the webhook will be disabled from {readable(until)} on."
    )


def notify(
    session: scoped_session[Any],
    merchant_id: int,
    webhook_id: str,
    kind: str,
    message: str,
    moment: int,
    config: Config,
) -> None:
    """Write a notice about a webhook in the running transaction: in the portal, in place of the
    webhook's last one of the same sort; in the audit log; and, for the members who want this kind,
    as one row of mail (portal.notices.gathering).

    `kind` is one of KINDS, `moment` Unix µs.
    """
    same = Notice.kind == kind if kind in _CERTIFICATES else _OF_HEALTH
    _dismiss(session, merchant_id, webhook_id, same, moment)
    if kind == "recovered":
        # Older notices that it was failing are deleted, or they would pile up where it comes and
        # goes; those of the last days are kept, since they show that it does.
        session.execute(
            sa.delete(Notice).where(
                Notice.merchant_id == merchant_id,
                Notice.dismissed_at < moment - KEPT_AFTER,
                Notice.webhook_id == webhook_id,
                _OF_HEALTH,
            )
        )
    session.add(
        Notice(
            merchant_id=merchant_id, webhook_id=webhook_id, at=moment, kind=kind, message=message
        )
    )
    record(session, "portal", f"webhook.{kind}", webhook_id, merchant_id, reason=message)
    if not config.smtp_url:
        return
    webhook, merchant = session.execute(
        sa.select(Webhook, Merchant)
        .join(Merchant, Merchant.id == Webhook.merchant_id)
        .where(Webhook.id == webhook_id, Webhook.merchant_id == merchant_id)
    ).one()
    # Not the whole URL: what follows the host may be a secret, and many people may read the mail.
    name = webhook.description or urlsplit(webhook.url).hostname or webhook.id
    address = f"{config.public_url}/m/{merchant.slug}/webhooks/{webhook.id}"
    gathering.queue(
        session,
        merchant_id,
        kind,
        f"[{merchant.name}] {name}: {_HEADLINES[kind]}",
        f"{name}: {message}\n{address}",
    )


def withdraw(
    session: scoped_session[Any], merchant_id: int, webhook_id: str, *, certificates: bool = False
) -> None:
    """Take what was told of a webhook's failures off the merchant's page, in the running
    transaction: a person has enabled it, and its record of health is clean. With `certificates`
    also that some end: it is deleted."""
    _dismiss(session, merchant_id, webhook_id, sa.true() if certificates else _OF_HEALTH, now())


def _dismiss(
    session: scoped_session[Any],
    merchant_id: int,
    webhook_id: str,
    which: sa.ColumnElement[bool],
    moment: int,
) -> None:
    session.execute(
        sa.update(Notice)
        .where(
            Notice.merchant_id == merchant_id,
            Notice.webhook_id == webhook_id,
            Notice.dismissed_at.is_(None),
            which,
        )
        .values(dismissed_at=moment)
    )


def notify_members(
    session: scoped_session[Any],
    merchant: Merchant,
    kind: str,
    headline: str,
    message: str,
    path: str,
) -> None:
    """Queue, in the running transaction, a mail to those of a merchant's members who want this
    kind, if mail is set up; `path` is the last part of its page's address."""
    config: Config = current_app.config["PORTAL"]
    if config.smtp_url:
        gathering.queue(
            session,
            merchant.id,
            kind,
            f"[{merchant.name}] {headline}",
            f"{message}\n{config.public_url}/m/{merchant.slug}/{path}",
        )


def run() -> int:
    """Write notices about webhooks whose receivers refuse everything, warn of those that will be
    disabled within a day and of certificates that end, and send the mail that is due. Returns how
    many messages were sent. Cron calls it from time to time."""
    if not clock_watch.is_doubted():
        warn_of_refusals()
        warn_of_ends()
        warn_of_certificates()
    return mail.send_due()


def warn_of_refusals(moment: int | None = None) -> int:
    """Write a notice, once for each time that a webhook is failing, if its receiver responds but
    has accepted nothing in PORTAL_HOLD_AFTER_FAILURES attempts in a row and for REFUSED_FOR, at
    `moment` (Unix µs, default now). Returns how many."""
    config: Config = current_app.config["PORTAL"]
    moment = now() if moment is None else moment
    refusing = (
        sa.select(Webhook.id, Webhook.merchant_id, Webhook.failures, Webhook.failing_since)
        .where(
            Webhook.enabled,
            Webhook.deleted_at.is_(None),
            Webhook.held_at.is_(None),
            Webhook.failures >= config.hold_after_failures,
            Webhook.failing_since <= moment - REFUSED_FOR,
            sa.not_(_was_told(REFUSED, "ending")),
        )
        .limit(TOLD_AT_ONCE)
    )
    if db.session.execute(refusing.limit(1)).first() is None:
        return 0
    with writing() as session:
        found = session.execute(refusing.with_for_update(of=Webhook)).all()
        for webhook_id, merchant_id, failures, failing_since in found:
            message = refused(failures, failing_since, config)
            notify(session, merchant_id, webhook_id, REFUSED, message, moment, config)
    return len(found)


def _was_told(*kinds: str) -> sa.ColumnElement[bool]:
    """Whether a notice of one of these kinds was written since the webhook began to fail."""
    return sa.exists().where(
        Notice.merchant_id == Webhook.merchant_id,
        Notice.webhook_id == Webhook.id,
        Notice.kind.in_(kinds),
        Notice.at >= Webhook.failing_since,
    )


def warn_of_ends(moment: int | None = None) -> int:
    """Write a notice, once for each time that a webhook is failing, that it will be disabled within
    a day from `moment` (Unix µs, default now). Returns how many."""
    config: Config = current_app.config["PORTAL"]
    moment = now() if moment is None else moment
    lasts = config.disable_after_days * DAY
    if lasts <= WARNED_BEFORE:
        return 0
    ending = (
        sa.select(Webhook.id, Webhook.merchant_id, Webhook.failing_since)
        .where(
            Webhook.enabled,
            Webhook.deleted_at.is_(None),
            sa.or_(Webhook.held_at.is_not(None), Webhook.failures >= config.hold_after_failures),
            Webhook.failing_since <= moment - lasts + WARNED_BEFORE,
            sa.not_(_was_told("ending")),
        )
        .limit(TOLD_AT_ONCE)
    )
    if db.session.execute(ending.limit(1)).first() is None:
        return 0
    with writing() as session:
        found = session.execute(ending.with_for_update(of=Webhook)).all()
        for webhook_id, merchant_id, failing_since in found:
            since = failing_since or moment
            notify(
                session,
                merchant_id,
                webhook_id,
                "ending",
                f"Every attempt since {readable(since)} has failed. Unless one succeeds, the "
                f"webhook will be disabled on {readable(since + lasts)}; events that come from "
                "then on are not sent to it, then or later.",
                moment,
                config,
            )
    return len(found)


def warn_of_certificates(moment: int | None = None) -> int:
    """Write a notice, once for each certificate, that it has ended or ends within ENDS_SOON of
    `moment` (Unix µs, default now): the one of a webhook's target, or the one that is shown to the
    target. Returns how many."""
    config: Config = current_app.config["PORTAL"]
    moment = now() if moment is None else moment
    told = 0
    for kind, column, whose in (
        ("certificate", Webhook.certificate_ends_at, "its target shows"),
        (
            "client_certificate",
            Webhook.client_certificate_ends_at,
            "the webhook shows to its target",
        ),
    ):
        known = sa.exists().where(
            Notice.merchant_id == Webhook.merchant_id,
            Notice.webhook_id == Webhook.id,
            Notice.kind == kind,
            Notice.at >= column - ENDS_SOON,
        )
        ending = (
            sa.select(Webhook.id, Webhook.merchant_id, column)
            .where(
                Webhook.enabled,
                Webhook.deleted_at.is_(None),
                column <= moment + ENDS_SOON,
                sa.not_(known),
            )
            .limit(TOLD_AT_ONCE)
        )
        if db.session.execute(ending.limit(1)).first() is None:
            continue
        with writing() as session:
            found = session.execute(ending.with_for_update(of=Webhook)).all()
            for webhook_id, merchant_id, ends_at in found:
                end = ends_at or moment
                notify(
                    session,
                    merchant_id,
                    webhook_id,
                    kind,
                    f"The certificate that {whose} {'ended' if end <= moment else 'ends'} on "
                    f"{readable(end)}. Without a new one its deliveries fail.",
                    moment,
                    config,
                )
        told += len(found)
    return told
