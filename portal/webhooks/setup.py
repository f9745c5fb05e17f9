"""Setting up webhooks, for the form and the API alike: check, store, note in the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError

from portal import queues, signing, vault
from portal.audit.log import record
from portal.db.session import db, writing
from portal.delivery.actions import discard_pending
from portal.errors import Conflict, FieldError, Invalid, NotFound
from portal.events import catalogue
from portal.events.matching import pattern_matches
from portal.ids import new_id
from portal.models import Attempt, AttemptPayload, Merchant, Webhook
from portal.models.locks import lock_merchant
from portal.models.webhook import lane_of
from portal.outbound import egress
from portal.outbound.libcurl import admitted
from portal.outbound.resolver import addresses_of
from portal.storage.sizes import add_deleted_webhook
from portal.webhooks import large, previews, rotation, rules
from portal.webhooks.auth_rules import certificate_ends_at
from portal.webhooks.fields import FIELDS, columns, shown
from portal.webhooks.kinds import RuleContext
from portal.webhooks.url_rules import DEFAULT_PORTS, UrlContext, clean_url, origin

MAX_WEBHOOKS = 100
"""Webhooks of one merchant; each event is matched with all of them."""
EDITED = "Someone changed this webhook after you opened it. Compare both, then save again."
_SHOWN_TEXT = 500
_RACES = 5


def get_webhook(merchant_id: int, webhook_id: str) -> Webhook:
    """A merchant's webhook. Raises NotFound when it has none of this ID, or deleted it."""
    webhook = db.session.scalar(
        sa.select(Webhook).where(
            Webhook.merchant_id == merchant_id,
            Webhook.id == webhook_id,
            Webhook.deleted_at.is_(None),
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


def answer_of(attempt: Attempt) -> AttemptPayload | None:
    """The payload log of an attempt; None once it is past its days."""
    return db.session.get(AttemptPayload, attempt.id)


def types_of(webhook: Webhook) -> list[str]:
    """The names of the catalogue's event types that trigger a webhook, sorted."""
    return sorted(
        name
        for name in catalogue.known_names(webhook.merchant_id)
        if any(pattern_matches(pattern, name) for pattern in webhook.events)
    )


def validate(
    merchant: Merchant, fields: Any, existing: Webhook | None = None, *, resolve: bool = True
) -> dict[str, Any]:
    """A webhook's columns from fields as the API takes them, checked by portal.webhooks.rules.

    With `existing`, what is not sent stays as it is. `resolve` says whether the URL's host name
    is looked up and refused when it leads to an address that may not be reached.
    Raises Invalid naming every wrong field, with pointers such as `/headers/X-Auth`.
    """
    merchant_id = merchant.id
    current = None if existing is None else columns(existing)
    types = frozenset(catalogue.known_names(merchant_id))

    def is_known(pattern: str) -> bool:
        if pattern.endswith(".*"):
            return any(pattern_matches(pattern, name) for name in types)
        return pattern in types

    context = RuleContext(
        reach=_reach(merchant_id, resolve=resolve),
        is_known=is_known,
        nearest=lambda name: catalogue.nearest(merchant_id, name),
        try_out=previews.Trial(merchant_id),
        seal=vault.encrypt,
        unseal=_opened,
    )
    return rules.clean(fields, current, context)


def _opened(token: str) -> str:
    try:
        return vault.decrypt(token)
    except vault.Unreadable:
        raise ValueError(
            "What is stored here was encrypted under a key that the portal does not have: give it "
            "anew, or remove it."
        ) from None


def create_webhook(
    merchant: Merchant, fields: Any, actor: str, *, webhook_id: str | None = None
) -> Webhook:
    """Store a new webhook with a signing secret, the given one or a fresh one.

    A `webhook_id` that the merchant already has gives that webhook back unchanged, so that a
    form sent twice makes one. Raises Invalid, Conflict past MAX_WEBHOOKS, StorageFull (large.py).
    """
    merchant_id = merchant.id
    cleaned = validate(merchant, fields)
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
            large.ask(merchant_id, cleaned)
            noted = {name: _short(value) for name, value in shown(cleaned).items()}
            record(session, actor, "webhook.created", webhook_id, merchant_id, **noted)
    except IntegrityError:
        # The same form, sent twice at the same moment.
        return get_webhook(merchant_id, webhook_id)
    return webhook


def update_webhook(
    webhook: Webhook, fields: Any, actor: str, version: int | None = None
) -> Webhook:
    """Change the given fields of a webhook; enabling sends what was held.

    `version` is the one that the editor saw; Conflict when it has been edited since.
    Raises Invalid naming every wrong field, and StorageFull (large.py).
    """
    merchant_id, webhook_id, lane = webhook.merchant_id, webhook.id, webhook.lane
    merchant = db.session.get_one(Merchant, merchant_id)
    for _ in range(_RACES):
        # Checked before the transaction: a name may take its time to resolve.
        seen = get_webhook(merchant_id, webhook_id)
        seen_version = seen.version
        if version is not None and version != seen_version:
            break
        cleaned = validate(merchant, fields, seen)
        with writing() as session:
            stored = _locked(merchant_id, webhook_id)
            if stored.version != seen_version:
                continue
            was_enabled = stored.enabled
            changed = _change(stored, cleaned, actor)
            if changed:
                stored.version += 1
                large.ask(merchant_id, changed)
                record(session, actor, "webhook.updated", webhook_id, merchant_id, **changed)
            work_is_due = stored.enabled and not was_enabled
        if work_is_due:
            queues.wake([lane])
        return stored
    raise Conflict(EDITED)


def enable(webhook: Webhook, actor: str) -> None:
    """Send again, beginning with what was held."""
    merchant_id, webhook_id, lane = webhook.merchant_id, webhook.id, webhook.lane
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        if not stored.holds and not stored.failures:
            return
        stored.enable()
        stored.version += 1
        record(session, actor, "webhook.enabled", webhook_id, merchant_id)
    queues.wake([lane])


def disable(webhook: Webhook, reason: str, actor: str) -> None:
    """Send nothing until someone enables it: what it is owed is held, what comes meanwhile is not
    owed to it."""
    merchant_id, webhook_id = webhook.merchant_id, webhook.id
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        if not stored.enabled:
            return
        stored.disable(reason[:_SHOWN_TEXT])
        stored.version += 1
        record(session, actor, "webhook.disabled", webhook_id, merchant_id, reason=reason)


def delete(webhook: Webhook, actor: str, version: int | None = None) -> None:
    """Take a webhook out of use for good and discard what it is owed; the log keeps its name.

    Raises Conflict when it has another version than the one given.
    """
    merchant_id, webhook_id = webhook.merchant_id, webhook.id
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        if version is not None and stored.version != version:
            raise Conflict(EDITED)
        stored.delete()
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
    discard_pending(webhook_id, "The webhook was deleted.")


def reveal_secret(webhook: Webhook, actor: str) -> str:
    """The signing secret's text; that someone asked for it is noted first."""
    merchant_id, webhook_id = webhook.merchant_id, webhook.id
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        record(session, actor, "webhook.secret_revealed", webhook_id, merchant_id)
        return stored.secret


def rotate_secret(webhook: Webhook, actor: str, overlap_hours: Any = 24) -> Webhook:
    """Replace the signing secret, which signs on for `overlap_hours` (0–168), as do those replaced
    before it until their own ends; 0 ends all of them at once.

    Raises Invalid for another overlap, and when MAX_OLD_SECRETS still sign.
    """
    merchant_id, webhook_id = webhook.merchant_id, webhook.id
    hours = rotation.overlap_hours(overlap_hours)
    with writing() as session:
        stored = _locked(merchant_id, webhook_id)
        rotation.refuse_many(stored, hours)
        stored.rotate_secret(signing.new_secret(), hours)
        record(
            session, actor, "webhook.secret_rotated", webhook_id, merchant_id, overlap_hours=hours
        )
    return stored


def preview(merchant: Merchant, fields: Any, existing: Webhook | None = None) -> previews.Preview:
    """The request that the newest matching event, or an example, would make with these fields;
    or what keeps it from being made. Stores and sends nothing, and resolves no name. Where the
    URL is still to be given, previews.URL_TO_GIVE stands for it."""
    if not fields.get("url", existing.url if existing else ""):
        fields = {**fields, "url": previews.URL_TO_GIVE}
    try:
        cleaned = validate(merchant, fields, existing, resolve=False)
    except Invalid as error:
        return previews.Preview(errors=error.errors)
    try:
        return previews.make(merchant.id, cleaned, existing)
    except vault.Unreadable as error:
        return previews.Preview([FieldError("", error.detail)])


def url_problem(url: str, merchant_id: int) -> str | None:
    """What keeps a URL from being a merchant's webhook's, as a sentence, its host name looked up;
    None when nothing does."""
    try:
        clean_url(url, _reach(merchant_id, resolve=True))
    except ValueError as error:
        return str(error)
    return None


def matched_last_week(merchant_id: int, cleaned: Mapping[str, Any]) -> int:
    """How many events of the last 7 days these columns would have matched, counted to 1,000."""
    return previews.matched_last_week(merchant_id, cleaned)


def _locked(merchant_id: int, webhook_id: str) -> Webhook:
    """The webhook inside a write transaction, where nobody else changes it."""
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
    """Set what differs; each change as [before, after], secrets masked."""
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


def _reach(merchant_id: int, *, resolve: bool) -> UrlContext:
    config = current_app.config["PORTAL"]
    public = urlsplit(config.public_url)
    own = {
        ((public.hostname or "").lower(), public.port or DEFAULT_PORTS[public.scheme]),
        *((host, config.port) for host in (config.host, "localhost", "127.0.0.1", "::1")),
    }
    listens_everywhere = config.host in ("0.0.0.0", "::")
    return UrlContext(
        admitted(config),
        frozenset(own),
        config.inspect_url,
        lambda address, port: (
            listens_everywhere and port == config.port and egress.is_of_this_machine(address)
        ),
        (lambda host: _looked_up(host, merchant_id)) if resolve else None,
    )


def _looked_up(host: str, merchant_id: int) -> list[egress.Address]:
    # It may take seconds, in which no snapshot is to be open: SQLite's log would grow as long.
    db.session.rollback()
    return addresses_of(host, merchant_id)
