"""Setting up webhooks, for the form and the API alike: store what passed the checks, note it in the
audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError

from portal import queues, signing
from portal.audit.log import record
from portal.db.session import db, writing
from portal.delivery.actions import WAS_DELETED, discard_pending
from portal.errors import Conflict, NotFound
from portal.events import catalogue
from portal.events.matching import pattern_matches
from portal.ids import new_id
from portal.models import Attempt, AttemptPayload, Webhook
from portal.models.locks import lock_merchant
from portal.models.webhook import lane_of
from portal.notices import notices
from portal.storage.sizes import add_deleted_webhook
from portal.webhooks import checking, large, rotation
from portal.webhooks.auth_rules import certificate_ends_at
from portal.webhooks.fields import FIELDS, shown
from portal.webhooks.url_rules import origin

MAX_WEBHOOKS = 100
"""Webhooks of one merchant; each event is matched with all of them."""
EDITED = "Someone changed this webhook after you opened it. Compare both, then save again."
_SHOWN_TEXT = 500
_RACES = 5


def get_webhook(merchant_id: int, webhook_id: str) -> Webhook:
    """A merchant's webhook. Raises NotFound if there is none with this ID, or it is deleted."""
    # PostgreSQL refuses to look for a NUL.
    webhook = (
        None
        if "\0" in webhook_id
        else db.session.scalar(
            sa.select(Webhook).where(
                Webhook.merchant_id == merchant_id,
                Webhook.id == webhook_id,
                Webhook.deleted_at.is_(None),
            )
        )
    )
    if webhook is None:
        raise NotFound("There is no such webhook.")
    return webhook


def list_webhooks(merchant_id: int) -> list[Webhook]:
    """A merchant's webhooks, the newest first; at most MAX_WEBHOOKS."""
    return list(
        db.session.scalars(
            sa.select(Webhook)
            .where(Webhook.merchant_id == merchant_id, Webhook.deleted_at.is_(None))
            .order_by(Webhook.created_at.desc(), Webhook.id.desc())
        )
    )


def triggered_by(merchant_id: int, event_type: str) -> list[Webhook]:
    """The merchant's webhooks that an event type triggers, the oldest first."""
    return [
        webhook
        for webhook in reversed(list_webhooks(merchant_id))
        if any(pattern_matches(pattern, event_type) for pattern in webhook.events)
    ]


def last_attempts(merchant_id: int) -> dict[str, Attempt]:
    """The newest attempt of each of a merchant's webhooks, by webhook ID."""
    newest = (
        sa.select(Attempt.id)
        .where(Attempt.webhook_id == Webhook.id)
        .order_by(Attempt.id.desc())
        .limit(1)
        .correlate(Webhook)
        .scalar_subquery()
    )
    ids = sa.select(newest).where(Webhook.merchant_id == merchant_id, Webhook.deleted_at.is_(None))
    found = db.session.scalars(
        sa.select(Attempt).where(Attempt.merchant_id == merchant_id, Attempt.id.in_(ids))
    )
    return {attempt.webhook_id: attempt for attempt in found}


def recent_attempts(webhook: Webhook, limit: int = 10) -> list[Attempt]:
    """The newest attempts of a webhook, the newest first."""
    return list(
        db.session.scalars(
            sa.select(Attempt)
            .where(Attempt.merchant_id == webhook.merchant_id, Attempt.webhook_id == webhook.id)
            .order_by(Attempt.id.desc())
            .limit(limit)
        )
    )


def payload_of(attempt: Attempt) -> AttemptPayload | None:
    """The payload log of an attempt; None once it is past its days."""
    return db.session.get(AttemptPayload, attempt.id)


def types_of(webhook: Webhook) -> list[str]:
    """The names of the catalogue's event types that trigger a webhook, sorted."""
    return sorted(
        name
        for name in catalogue.known_names(webhook.merchant_id)
        if any(pattern_matches(pattern, name) for pattern in webhook.events)
    )


def create_webhook(
    merchant_id: int, fields: Any, actor: str, *, webhook_id: str | None = None
) -> Webhook:
    """Store a new webhook with a signing secret, the given one or a fresh one.

    If the merchant already has a webhook with this `webhook_id`, that one is returned unchanged, so
    that a form sent twice makes one webhook. Raises Invalid, Conflict past MAX_WEBHOOKS,
    StorageFull (large.py).
    """
    cleaned = checking.validate(merchant_id, fields)
    secret = cleaned.pop("secret", None) or signing.new_secret()
    webhook_id = webhook_id or new_id("wh")
    lanes = current_app.config["PORTAL"].lanes
    try:
        with writing() as session:
            lock_merchant(session, merchant_id)
            earlier = session.get(Webhook, webhook_id)
            if earlier is not None and earlier.merchant_id == merchant_id:
                return earlier
            count = session.scalar(
                sa.select(sa.func.count())
                .select_from(Webhook)
                .where(Webhook.merchant_id == merchant_id, Webhook.deleted_at.is_(None))
            )
            if (count or 0) >= MAX_WEBHOOKS:
                raise Conflict(
                    f"A merchant has at most {MAX_WEBHOOKS} webhooks; delete one that is not "
                    "needed any more."
                )
            webhook = Webhook(
                id=webhook_id,
                merchant_id=merchant_id,
                lane=lane_of(webhook_id, lanes),
                client_certificate_ends_at=certificate_ends_at(cleaned["auth"]),
                **cleaned,
            )
            webhook.set_secret(secret)
            if not webhook.enabled:
                webhook.disable("It was created disabled.")
            session.add(webhook)
            large.check(merchant_id, cleaned)
            noted = {name: _short(value) for name, value in shown(cleaned).items()}
            record(session, actor, "webhook.created", webhook_id, merchant_id, **noted)
    except IntegrityError:
        # The same form, sent twice at the same moment.
        return get_webhook(merchant_id, webhook_id)
    return webhook


def update_webhook(
    merchant_id: int, webhook_id: str, fields: Any, actor: str, version: int | None = None
) -> Webhook:
    """Change the given fields of a webhook; enabling sends what was held.

    `version` is the one that the editor saw; Conflict when it has been edited since.
    Raises NotFound, Invalid naming every wrong field, and StorageFull (large.py).
    """
    for _ in range(_RACES):
        # Checked before the transaction: looking a host name up may take its time.
        seen = get_webhook(merchant_id, webhook_id)
        seen_version = seen.version
        if version is not None and version != seen_version:
            break
        cleaned = checking.validate(merchant_id, fields, seen)
        with writing() as session:
            stored = _locked(merchant_id, webhook_id)
            if stored.version != seen_version:
                continue
            was_enabled = stored.enabled
            changed = _change(stored, cleaned, actor)
            if changed:
                stored.version += 1
                large.check(merchant_id, changed)
                record(session, actor, "webhook.updated", webhook_id, merchant_id, **changed)
            work_is_due = stored.enabled and not was_enabled
            if work_is_due:
                notices.withdraw(session, merchant_id, webhook_id)
        if work_is_due:
            queues.wake([stored.lane])
        return stored
    raise Conflict(EDITED)


def enable(merchant_id: int, webhook_id: str, actor: str) -> Webhook:
    """Send again, beginning with what was held. Raises NotFound."""
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        if not stored.holds and not stored.failures:
            return stored
        stored.enable()
        notices.withdraw(session, merchant_id, webhook_id)
        stored.version += 1
        record(session, actor, "webhook.enabled", webhook_id, merchant_id)
    queues.wake([stored.lane])
    return stored


def disable(merchant_id: int, webhook_id: str, reason: str, actor: str) -> Webhook:
    """Send nothing until someone enables it: deliveries that wait are held, and events that come
    meanwhile make none. Raises NotFound."""
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        if not stored.enabled:
            return stored
        stored.disable(reason[:_SHOWN_TEXT])
        stored.version += 1
        record(session, actor, "webhook.disabled", webhook_id, merchant_id, reason=reason)
    return stored


def delete(merchant_id: int, webhook_id: str, actor: str, version: int | None = None) -> None:
    """Take a webhook out of use for good and discard its waiting deliveries; the log keeps its
    name.

    Raises NotFound, and Conflict when it has another version than the one given.
    """
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        if version is not None and stored.version != version:
            raise Conflict(EDITED)
        stored.delete()
        notices.withdraw(session, merchant_id, webhook_id, certificates=True)
        record(
            session,
            actor,
            "webhook.deleted",
            webhook_id,
            merchant_id,
            description=stored.description,
            url=stored.url,
        )
        add_deleted_webhook(session, webhook_id)
    discard_pending(webhook_id, WAS_DELETED)


def reveal_secret(merchant_id: int, webhook_id: str, actor: str) -> str:
    """The signing secret; who asked for it is first noted in the audit log. Raises NotFound."""
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        record(session, actor, "webhook.secret_revealed", webhook_id, merchant_id)
        return stored.secret


def rotate_secret(
    merchant_id: int, webhook_id: str, actor: str, overlap_hours: Any = 24
) -> Webhook:
    """Replace the signing secret. The old one goes on signing for `overlap_hours` (0–168), and
    those before it until their own ends; 0 ends all of them at once.

    Raises NotFound; Invalid for another overlap, and when MAX_OLD_SECRETS still sign.
    """
    hours = rotation.overlap_hours(overlap_hours)
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        rotation.refuse_many(stored, hours)
        stored.rotate_secret(signing.new_secret(), hours)
        record(
            session, actor, "webhook.secret_rotated", webhook_id, merchant_id, overlap_hours=hours
        )
    return stored


def _locked(merchant_id: int, webhook_id: str) -> Webhook:
    """The webhook, locked in the running transaction."""
    webhook = db.session.scalar(
        sa.select(Webhook)
        .where(
            Webhook.merchant_id == merchant_id,
            Webhook.id == webhook_id,
            Webhook.deleted_at.is_(None),
        )
        .with_for_update()
    )
    if webhook is None:
        raise NotFound("There is no such webhook.")
    return webhook


def _change(stored: Webhook, cleaned: Mapping[str, Any], actor: str) -> dict[str, Any]:
    """Set the fields that differ; returns each as [before, after], with secrets masked."""
    changed = {}
    for name in FIELDS:
        before, after = getattr(stored, name), cleaned[name]
        if before == after:
            continue
        changed[name] = [_short(shown({name: value})[name]) for value in (before, after)]
        if name == "auth":
            stored.client_certificate_ends_at = certificate_ends_at(after)
        if name == "url" and origin(before) != origin(after):
            stored.certificate_ends_at = stored.certificate_checked_at = None
        if name != "enabled":
            setattr(stored, name, after)
        elif after:
            stored.enable()
        else:
            stored.disable(f"Disabled by {actor.removeprefix('user:')}.")
    return changed


def _short(value: Any) -> Any:
    is_long = isinstance(value, str) and len(value) > _SHOWN_TEXT
    return value[:_SHOWN_TEXT] + "…" if is_long else value
