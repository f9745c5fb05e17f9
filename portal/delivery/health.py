"""A webhook that fails: hold its deliveries, probe, tell people, disable it in the end.

Deliveries of a held or disabled webhook stay pending in the database and are shown as held: so
holding a hundred thousand of them, and sending them again, is one row's change. What is decided
here is told in docs/design.md, "Failing".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import scoped_session
from sqlalchemy.orm.attributes import flag_modified

from portal.clock import DAY, MINUTE, SECOND, readable
from portal.config import Config
from portal.db.session import table, writing
from portal.models import Notice, Webhook
from portal.notices import notices
from portal.outbound.outcome import Outcome

FIRST_PAUSE, LONGEST_PAUSE = 5 * SECOND, 30 * SECOND
"""Between two rounds of probes: as long as the webhook has been held, within these."""
LONGEST_ASKED_PAUSE = 30 * MINUTE
"""How long a receiver may ask to be left alone (`Retry-After`); and the longest pause after a
probe that was the last attempt of its delivery."""
UNREADABLE_PAUSE = MINUTE

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Health:
    """How a webhook is doing. Moments are in Unix µs; the fields mean what they mean in
    models.Webhook."""

    failures: int = 0
    failing_since: int | None = None
    away: int = 0
    unreachable: bool = False
    held_at: int | None = None
    next_probe_at: int | None = None
    catch_up_from: int | None = None
    disabled_reason: str | None = None

    @classmethod
    def of(cls, webhook: Webhook | sa.Row[*tuple[Any, ...]]) -> Health:
        """The health of a stored webhook that is enabled, or of its row."""
        return cls(
            webhook.failures,
            webhook.failing_since,
            webhook.away,
            webhook.unreachable,
            webhook.held_at,
            webhook.next_probe_at,
            webhook.catch_up_from,
        )

    def rests(self, moment: int) -> bool:
        """Whether it is held and, at `moment` (Unix µs), waits for the time of its next probe. If
        that is further away than any pause is long, or it was held later than now, the clock was
        set back, and it does not wait."""
        if self.held_at is None or self.held_at > moment:
            return False
        return moment < (self.next_probe_at or 0) <= moment + LONGEST_ASKED_PAUSE

    @property
    def is_confirmed(self) -> bool:
        """Whether it is held and a first round of probes has ended without success."""
        return self.held_at is not None and (self.next_probe_at or 0) > self.held_at


WELL = Health()
"""The health of a webhook whose last attempt was a success; another success does not change it."""


def after_attempt(
    health: Health,
    outcome: Outcome,
    attempted_at: int,
    moment: int,
    config: Config,
    *,
    gone: bool = False,
    was_last: bool = False,
    is_kept: bool = False,
    asked_seconds: int = 0,
    is_clock_doubted: Callable[[], bool] = lambda: False,
) -> Health:
    """The health after one more attempt, which began at `attempted_at` (Unix µs). Pure.

    `gone` is a 410, by which the receiver asks for no more (Standard Webhooks); the webhook is
    disabled at once. It is held after PORTAL_HOLD_AFTER_FAILURES attempts in a row that found the
    receiver away, until somebody answers otherwise; and disabled after PORTAL_DISABLE_AFTER_DAYS
    of nothing but failures. `was_last` is a delivery that has no attempt left, `is_kept` one whose
    last attempt found nobody and is kept (recording.is_kept), for which it is held at once;
    `asked_seconds` is what the receiver asks to wait. `is_clock_doubted` is asked before days of
    failures disable it.
    """
    is_held = health.held_at is not None
    if outcome is Outcome.EXPIRED:
        return health
    if outcome is Outcome.DELIVERED:
        if not is_held and health.catch_up_from is None:
            return WELL
        return Health(catch_up_from=moment if is_held else health.catch_up_from)
    health = replace(
        health,
        failures=health.failures + 1,
        failing_since=moment if health.failing_since is None else health.failing_since,
    )
    if gone:
        return replace(health, disabled_reason="The receiver answered 410 Gone.")
    health = _disabled_in_time(health, moment, config, is_clock_doubted)
    if outcome is Outcome.OWN or health.disabled_reason is not None:
        return health
    if outcome is Outcome.REFUSED:
        return replace(
            health,
            away=0,
            unreachable=False,
            held_at=None,
            next_probe_at=None,
            catch_up_from=moment if is_held else health.catch_up_from,
        )
    health = replace(health, away=health.away + 1, unreachable=outcome is Outcome.UNREACHABLE)
    asked = min(asked_seconds * SECOND, LONGEST_ASKED_PAUSE)
    if health.held_at is None:
        if health.away < config.hold_after_failures and not is_kept:
            return health
        return replace(health, held_at=moment, next_probe_at=moment + asked, catch_up_from=None)
    if attempted_at <= health.held_at <= moment:
        # It was under way already when the webhook was held, so it is not a probe.
        return health
    if outcome in (Outcome.BROKEN, Outcome.SILENT) and not was_last and not asked:
        # Perhaps only this delivery is rejected: the round goes on with another.
        return health
    return _paused(health, moment, asked, LONGEST_ASKED_PAUSE if was_last else LONGEST_PAUSE)


def after_round(
    health: Health,
    moment: int,
    config: Config,
    longest_pause: int,
    is_clock_doubted: Callable[[], bool] = lambda: False,
) -> Health:
    """The health of a held webhook after a round of probes that has ended because nobody listens or
    nothing is left to try; the pause is `longest_pause` µs at most. Pure."""
    health = _disabled_in_time(health, moment, config, is_clock_doubted)
    return health if health.disabled_reason else _paused(health, moment, 0, longest_pause)


def pause_between(health: Health, moment: int, longest: int) -> int:
    """The pause after a round of probes at `moment`: as long as the webhook has been held, and at
    most `longest` (all in µs)."""
    held_for = moment - (health.held_at or moment)
    return min(max(held_for, FIRST_PAUSE), longest)


def _paused(health: Health, moment: int, asked: int, longest: int) -> Health:
    pause = max(asked, pause_between(health, moment, longest))
    return replace(health, next_probe_at=moment + pause)


def _disabled_in_time(
    health: Health, moment: int, config: Config, is_clock_doubted: Callable[[], bool]
) -> Health:
    days = config.disable_after_days
    lasts = moment - (health.failing_since or moment)
    is_bad = health.held_at is not None or health.failures >= config.hold_after_failures
    if not is_bad or lasts < days * DAY or is_clock_doubted():
        return health
    return replace(health, disabled_reason=f"Every attempt has failed for {days} days.")


@dataclass(frozen=True)
class Changed:
    """A change of a webhook's health, at `moment` (Unix µs).

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

    If a person has edited the webhook since it was read, that wins, and this change is dropped.
    """
    webhook_id, merchant_id, moment = changed.webhook_id, changed.merchant_id, changed.moment
    after = changed.after
    values: dict[str, Any] = {
        "failures": after.failures,
        "failing_since": after.failing_since,
        "away": after.away,
        "unreachable": after.unreachable,
        "held_at": after.held_at,
        "next_probe_at": after.next_probe_at,
        "catch_up_from": after.catch_up_from,
        # Not an edit: forms and caches stay valid.
        "updated_at": Webhook.updated_at,
    }
    if after.disabled_reason:
        values |= {
            "enabled": False,
            "disabled_at": moment,
            "disabled_reason": after.disabled_reason,
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
    told = _news(session, changed, config)
    if told is None:
        return
    kind, message = told
    notices.notify(session, merchant_id, webhook_id, kind, message, moment, config)


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
            notices.notify(
                session,
                webhook.merchant_id,
                webhook_id,
                "held",
                f"{unreadable_sentence(lost)} Deliveries are held, and go out when it "
                "can be opened.",
                moment,
                current_app.config["PORTAL"],
            )
            _log.warning("%s is held: no secret key opens %s.", webhook_id, ", ".join(lost))
        return Health.of(webhook)


def hold_unusable(webhook_id: str, moment: int) -> Health:
    """The same for a webhook whose settings the portal cannot use as they are stored, or not even
    read: nothing is read of it but its health.

    Raises Unavailable.
    """
    hook = table(Webhook)
    with writing() as session:
        row = session.execute(
            sa.select(
                hook.c.merchant_id,
                hook.c.enabled,
                hook.c.failures,
                hook.c.failing_since,
                hook.c.away,
                hook.c.unreachable,
                hook.c.held_at,
                hook.c.next_probe_at,
                hook.c.catch_up_from,
            )
            .where(hook.c.id == webhook_id)
            .with_for_update()
        ).one()
        if not row.enabled:
            return Health.of(row)
        again_at = moment + UNREADABLE_PAUSE
        session.execute(
            sa.update(hook)
            .where(hook.c.id == webhook_id)
            .values(
                held_at=sa.func.coalesce(hook.c.held_at, moment),
                next_probe_at=again_at,
                updated_at=hook.c.updated_at,
            )
        )
        if row.held_at is None:
            notices.notify(
                session,
                row.merchant_id,
                webhook_id,
                "held",
                "The portal cannot use the settings of this webhook as they are stored. Ask the "
                "portal's operator: its log says what is wrong. Deliveries are held, and go out "
                "when they can be used.",
                moment,
                current_app.config["PORTAL"],
            )
        return replace(Health.of(row), held_at=row.held_at or moment, next_probe_at=again_at)


def unreadable_sentence(lost: Sequence[str]) -> str:
    """A sentence for what Webhook.unreadable found, with the remedy."""
    listed = " and ".join(lost)
    return (
        f"No secret key of the portal opens {listed}. Give it anew, or ask the portal's operator "
        "to add the key that it was stored under to PORTAL_SECRET_KEY."
    )


def _news(session: scoped_session[Any], changed: Changed, config: Config) -> tuple[str, str] | None:
    before, after = changed.before, changed.after
    if after.disabled_reason:
        return (
            "disabled",
            f"{after.disabled_reason} The webhook is disabled; what it is owed is held until "
            "you enable it or discard it. Events that come while it is disabled are not sent to "
            "it, then or later.",
        )
    if after.is_confirmed and not before.is_confirmed:
        until = (after.failing_since or changed.moment) + config.disable_after_days * DAY
        return (
            "held",
            f"The last {after.failures:,} attempts failed. Deliveries are held, and the receiver "
            f"is probed now and then; they go out when it answers again. Unless one succeeds, the "
            f"webhook will be disabled on {readable(until)}.",
        )
    if after.held_at is None and before.is_confirmed and after.failures:
        return notices.REFUSED, notices.refused(after.failures, after.failing_since, config)
    # After fewer failures nobody was told, and nothing need be read.
    was_bad = before.failures >= config.hold_after_failures
    if not after.failures and (before.is_confirmed or (was_bad and _was_told_of(session, changed))):
        return "recovered", "The webhook works again; what was held is being sent."
    return None


def _was_told_of(session: scoped_session[Any], changed: Changed) -> bool:
    """Whether people were told about the failures that have just ended."""
    since = changed.before.failing_since
    if since is None:
        return False
    return (
        session.scalar(
            sa.select(Notice.id)
            .where(
                Notice.merchant_id == changed.merchant_id,
                Notice.webhook_id == changed.webhook_id,
                Notice.kind.in_(notices.OF_FAILURES),
                Notice.at >= since,
            )
            .limit(1)
        )
        is not None
    )
