"""A webhook that fails: hold its deliveries, probe, tell people, disable it in the end.

Deliveries of a held or disabled webhook stay pending in the database and are shown as held: so
holding a hundred thousand of them, and sending them again, is one row's change.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import scoped_session
from sqlalchemy.orm.attributes import flag_modified

from portal.clock import DAY, MINUTE, SECOND, iso
from portal.config import Config
from portal.extensions import writing
from portal.models import Webhook
from portal.people import notices

FIRST_PROBE = 5 * SECOND
LONGEST_BETWEEN_PROBES = 30 * MINUTE
UNREADABLE_PAUSE = MINUTE


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Health:
    """How a webhook has been doing; moments in Unix µs."""

    failures: int = 0
    failing_since: int | None = None
    held_at: int | None = None
    next_probe_at: int | None = None
    disabled_reason: str | None = None


def after_attempt(health: Health, ok: bool, gone: bool, moment: int, config: Config) -> Health:
    """The health after one more attempt. Pure.

    `gone` is a 410, by which the receiver asks for no more (Standard Webhooks); the webhook is
    disabled at once. Otherwise it is held after PORTAL_HOLD_AFTER_FAILURES failures in a row,
    probed ever less often, and disabled after PORTAL_DISABLE_AFTER_DAYS of nothing but failures.
    """
    if ok:
        return Health()
    since = health.failing_since or moment
    health = replace(health, failures=health.failures + 1, failing_since=since)
    if gone:
        return replace(health, disabled_reason="The receiver answered 410 Gone.")
    if health.held_at is None:
        if health.failures < config.hold_after_failures:
            return health
        return replace(health, held_at=moment, next_probe_at=moment + FIRST_PROBE)
    if moment - since >= config.disable_after_days * DAY:
        days = config.disable_after_days
        return replace(
            health, disabled_reason=f"Every attempt has failed for {days} days."
        )
    pause = min(max(moment - health.held_at, FIRST_PROBE), LONGEST_BETWEEN_PROBES)
    return replace(health, next_probe_at=moment + pause)


@dataclass(frozen=True)
class Changed:
    """The health of a webhook that attempts have changed, at `moment` (Unix µs).

    `seen_at` is the webhook's `updated_at` when it was read.
    """

    webhook_id: str
    merchant_id: int
    lane: int
    before: Health
    after: Health
    seen_at: int
    moment: int


def store(session: scoped_session[Any], changed: Changed, config: Config) -> None:
    """Write a changed health and tell people, inside the running transaction.

    A person's change since the webhook was read wins, and this one is dropped.
    """
    webhook_id, merchant_id, moment = changed.webhook_id, changed.merchant_id, changed.moment
    before, after = changed.before, changed.after
    values: dict[str, Any] = {
        "failures": after.failures,
        "failing_since": after.failing_since,
        "held_at": after.held_at,
        "next_probe_at": after.next_probe_at,
        # Not an edit: forms and caches stay valid.
        "updated_at": Webhook.updated_at,
    }
    if after.disabled_reason:
        values |= {
            "enabled": False, "disabled_at": moment, "disabled_reason": after.disabled_reason,
            "updated_at": moment,
        }
    written = session.execute(
        sa.update(Webhook)
        .where(Webhook.id == webhook_id, Webhook.updated_at == changed.seen_at)
        .values(values)
        .execution_options(synchronize_session=False)
    )
    if written.rowcount != 1:  # type: ignore[attr-defined]
        return
    told = _news(before, after, config)
    if told is None:
        return
    kind, message = told
    notices.tell(session, merchant_id, webhook_id, kind, message, moment, config)


def hold_unreadable(webhook_id: str, moment: int) -> Health:
    """Hold a webhook whose secrets no key of the portal opens, at `moment` (Unix µs), and tell
    people once; its health then. Its lane rests for UNREADABLE_PAUSE before it is looked at again,
    so a probe goes out soon after they can be opened.

    Raises Unavailable.
    """
    with writing() as session:
        webhook = session.get_one(Webhook, webhook_id, with_for_update=True)
        lost = webhook.unreadable(moment)
        if lost and webhook.enabled:
            webhook.next_probe_at = moment + UNREADABLE_PAUSE
            # Not an edit: forms and caches stay valid.
            flag_modified(webhook, "updated_at")
        if lost and webhook.enabled and webhook.held_at is None:
            webhook.held_at = moment
            notices.tell(
                session, webhook.merchant_id, webhook_id, "held",
                f"{unreadable_sentence(lost)} Deliveries are held, and go out when it can be.",
                moment, current_app.config["PORTAL"],
            )
            _log.warning("%s is held: no secret key opens %s.", webhook_id, ", ".join(lost))
        return Health(
            webhook.failures, webhook.failing_since, webhook.held_at, webhook.next_probe_at
        )


def unreadable_sentence(lost: Sequence[str]) -> str:
    """What Webhook.unreadable found, with the remedy."""
    listed = " and ".join(lost)
    return (
        f"No secret key of the portal opens {listed}. Give it anew, or ask the portal's operator "
        "to add the key that it was stored under to PORTAL_SECRET_KEY."
    )


def _news(before: Health, after: Health, config: Config) -> tuple[str, str] | None:
    if after.disabled_reason:
        return (
            "disabled",
            f"{after.disabled_reason} The webhook is disabled; what it is owed is held until "
            "you enable it or discard it.",
        )
    if after.held_at is not None and before.held_at is None:
        until = (after.failing_since or after.held_at) + config.disable_after_days * DAY
        return (
            "held",
            f"The last {after.failures} attempts failed. Deliveries are held and a probe is sent "
            f"now and then; they go out when it succeeds. Unless it does, the webhook will be "
            f"disabled on {iso(until)}.",
        )
    if before.held_at is not None and after.held_at is None:
        return "recovered", "The webhook answers again; what was held is being sent."
    return None
