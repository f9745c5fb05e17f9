"""Who may call which route: one table, asked before every request.

A route that is not in the table is refused to all, and fails a test. Another merchant's
object answers exactly as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import sqlalchemy as sa
from flask import Flask, abort, current_app, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from flask_login import current_user
from itsdangerous import BadSignature

from portal.db.session import db, one_statement, table
from portal.errors import Forbidden, Unauthorized
from portal.fairness import courtesy
from portal.journal import security_log
from portal.models import ApiKey, Merchant
from portal.people import sessions

PUBLIC = frozenset({"public"})
SIGNED_IN = frozenset({"user"})
STAFF = frozenset({"auditor", "operator"})
OPERATOR = frozenset({"operator"})
VIEW = frozenset({"viewer", "editor", "owner", "auditor", "operator"})
MEMBERS = frozenset({"viewer", "editor", "owner"})
EDIT = frozenset({"editor", "owner"})
OPERATE = frozenset({"editor", "owner", "operator"})
OWN = frozenset({"owner", "operator"})
KEY_READ = frozenset({"read", "write"})
KEY_WRITE = frozenset({"write"})

ACCESS: dict[str, frozenset[str]] = {
    "static": PUBLIC,
    "health.healthz": PUBLIC,
    "health.readyz": PUBLIC,
    "health.metrics": PUBLIC,
    # Pages
    "auth.sign_in": PUBLIC,
    "shared.show": PUBLIC,
    "invitations.show": PUBLIC,
    "invitations.accept": PUBLIC,
    "inspected.receive": PUBLIC,
    "policy_reports.receive": PUBLIC,
    "auth.second_step": PUBLIC,
    "passwords.forgot": PUBLIC,
    "passwords.choose": PUBLIC,
    "auth.sign_out": SIGNED_IN,
    "account.show": SIGNED_IN,
    "account.change_password": SIGNED_IN,
    "second_factor.show": SIGNED_IN,
    "second_factor.turn_on": SIGNED_IN,
    "second_factor.renew_codes": SIGNED_IN,
    "second_factor.turn_off": SIGNED_IN,
    "second_factor.add_passkey": SIGNED_IN,
    "second_factor.remove_passkey": SIGNED_IN,
    "account.end_session": SIGNED_IN,
    "account.end_other_sessions": SIGNED_IN,
    "account.choose_notices": MEMBERS,
    "home.root": SIGNED_IN,
    "home.index": VIEW,
    "home.dismiss_notice": OPERATE,
    "webhooks.index": VIEW,
    "webhooks.new": EDIT,
    "webhooks.create": EDIT,
    "webhooks.preview": EDIT,
    "webhooks.check_url": EDIT,
    "webhooks.show": VIEW,
    "webhooks.edit": EDIT,
    "webhooks.update": EDIT,
    "webhooks.delete": EDIT,
    "webhooks.enable": OPERATE,
    "webhooks.disable": OPERATE,
    "webhooks.test": OPERATE,
    "webhooks.reveal_secret": EDIT,
    "webhooks.rotate_secret": EDIT,
    "inspector.show": VIEW,
    "inspector.create": EDIT,
    "inspector.choose_answer": EDIT,
    "inspector.remove": EDIT,
    "recover.index": VIEW,
    "recover.start": OPERATE,
    "recover.show": VIEW,
    "recover.pause": OPERATE,
    "recover.resume": OPERATE,
    "recover.cancel": OPERATE,
    "events.index": VIEW,
    "events.show": VIEW,
    "events.resend_failed": OPERATE,
    "attempts.index": VIEW,
    "attempts.show": VIEW,
    "records.show": VIEW,
    "saved.create": VIEW,
    "saved.delete": VIEW,
    "exports.events": VIEW,
    "exports.attempts": VIEW,
    "exports.all_events": STAFF,
    "exports.all_attempts": STAFF,
    "exports.audit_log": STAFF,
    "tail.events": VIEW,
    "tail.attempts": VIEW,
    "tail.all_events": STAFF,
    "tail.all_attempts": STAFF,
    "search.index": SIGNED_IN,
    "attempts.share": OPERATE,
    "attempts.revoke_share": OPERATE,
    "deliveries.resend": OPERATE,
    "catalogue.index": VIEW,
    "catalogue.show": VIEW,
    "catalogue.create": EDIT,
    "catalogue.delete": EDIT,
    "settings.index": VIEW,
    "settings.change_periods": OWN,
    "settings.change_storage": OPERATOR,
    "settings.create_key": OWN,
    "settings.revoke_key": OWN,
    "settings.invite": OWN,
    "settings.revoke_invitation": OWN,
    "settings.change_member": OWN,
    "settings.remove_member": OWN,
    "staff.merchants": STAFF,
    "staff.create_merchant": OPERATOR,
    "staff.activate": OPERATOR,
    "staff.deactivate": OPERATOR,
    "staff.users": STAFF,
    "staff.create_user": OPERATOR,
    "staff.disable_user": OPERATOR,
    "staff.enable_user": OPERATOR,
    "staff.reset_password": OPERATOR,
    "staff.events": STAFF,
    "staff.attempts": STAFF,
    "staff.operations": STAFF,
    "staff.audit": STAFF,
    # API
    "api.create_events": KEY_WRITE,
    "api.list_events": KEY_READ,
    "api.show_event": KEY_READ,
    "api.related_events": KEY_READ,
    "api.event_deliveries": KEY_READ,
    "api.list_event_types": KEY_READ,
    "api.create_event_type": KEY_WRITE,
    "api.list_webhooks": KEY_READ,
    "api.create_webhook": KEY_WRITE,
    "api.show_webhook": KEY_READ,
    "api.update_webhook": KEY_WRITE,
    "api.delete_webhook": KEY_WRITE,
    "api.rotate_secret": KEY_WRITE,
    "api.test_webhook": KEY_WRITE,
    "api.enable_webhook": KEY_WRITE,
    "api.disable_webhook": KEY_WRITE,
    "api.recover_webhook": KEY_WRITE,
    "api.discard_held": KEY_WRITE,
    "api.show_recovery": KEY_READ,
    "api.pause_recovery": KEY_WRITE,
    "api.resume_recovery": KEY_WRITE,
    "api.cancel_recovery": KEY_WRITE,
    "api.list_deliveries": KEY_READ,
    "api.resend_delivery": KEY_WRITE,
    "api.list_attempts": KEY_READ,
    "api.show_attempt": KEY_READ,
    "api.openapi": PUBLIC,
    "api_docs.index": PUBLIC,
}


def check_access() -> ResponseReturnValue | None:
    """Decide on the request before its view runs; sets `g.roles`, and `g.merchant` for pages,
    `g.key` and `g.merchant_id` for the API.

    Pages that need a sign-in redirect to it (an HTMX request makes the whole page go there), and
    forms answer 401, so that what was typed is not lost (portal.views.errors.signed_out); what a
    role may not do answers 403; what is not the user's answers 404.
    """
    g.merchant = None
    g.roles = frozenset()
    if request.endpoint is None:
        return None
    allowed = ACCESS.get(request.endpoint)
    if allowed is None:
        abort(403)
    if request.blueprint not in BY_HASH and any(
        "\0" in str(value) for value in (request.view_args or {}).values()
    ):
        # Nothing is called so, and PostgreSQL would refuse to look.
        abort(404)
    if allowed is PUBLIC:
        return None
    if request.blueprint == "api":
        _check_key(allowed)
        return None
    if not current_user.is_authenticated:
        courtesy.is_for(courtesy.NOBODYS)
        return to_sign_in() if request.method == "GET" else abort(401)
    g.roles = _roles()
    is_members = g.merchant is not None and not current_user.staff_role
    courtesy.is_for(f"merchant {g.merchant.id}" if is_members else f"user {current_user.id}")
    if allowed & g.roles:
        return None
    slug = (request.view_args or {}).get("slug")
    # Another merchant's page answers as one that does not exist.
    return abort(404 if slug is not None and not VIEW & g.roles else 403)


def for_long() -> Callable[[], bool]:
    """Whether who made this request may go on to see what they asked for: to be asked now and then
    by an answer that takes long, in an application context."""
    token, allowed = session.get("token", ""), ACCESS.get(request.endpoint or "", frozenset())
    merchant_id = g.merchant.id if g.merchant else None

    def may_go_on() -> bool:
        found = sessions.find(token)
        if found is None:
            return False
        user = found[1]
        role = user.role_at(merchant_id) if merchant_id is not None else None
        return bool(allowed & {"user", user.staff_role, role})

    return may_go_on


MAX_PAGE = 2_000
"""Letters of an address to come back to."""


def to_sign_in() -> ResponseReturnValue:
    """Send the browser to the sign-in page, and back to the page it is on afterwards."""
    target = url_for("auth.sign_in", next=page_of_reader())
    if request.headers.get("HX-Request"):
        return "", 401, {"HX-Redirect": target}
    return redirect(target, 303)


def page_of_reader() -> str | None:
    """The page that the request is for; of a form and a part, the page that holds it."""
    is_part = request.method != "GET" or bool(request.headers.get("HX-Request"))
    holder = request.headers.get("HX-Current-URL") or request.referrer or ""
    try:
        address = urlsplit(holder if is_part else request.url)
    except ValueError:
        # Anybody may send what is no address.
        return None
    if is_part and address.netloc != request.host:
        return None
    if address.path.startswith("//"):
        # A browser takes it for another site.
        return None
    page = urlunsplit(("", "", address.path, address.query, ""))
    # The way back would be three times as long once more, and is not gone when it is longer.
    return page if 0 < len(page) <= MAX_PAGE else None


def may(endpoint: str) -> bool:
    """Whether the signed-in user may call a route at the current merchant: templates ask
    before they show a button."""
    return bool(ACCESS.get(endpoint, frozenset()) & g.get("roles", frozenset()))


def _roles() -> frozenset[str]:
    roles = {"user"}
    if current_user.staff_role:
        roles.add(current_user.staff_role)
    slug = (request.view_args or {}).get("slug")
    if slug is not None:
        merchant = db.session.scalar(db.select(Merchant).filter_by(slug=slug))
        if merchant is None:
            return frozenset({"user"})
        role = current_user.role_at(merchant.id)
        if role:
            roles.add(role)
        if roles & VIEW:
            g.merchant = merchant
    return frozenset(roles)


_key = table(ApiKey).c
_KEY = sa.select(_key.id, _key.scope, _key.merchant_id, _key.last_used_at).where(
    _key.digest == sa.bindparam("digest"), _key.revoked_at.is_(None)
)


BY_HASH = frozenset(("invitations", "shared", "passwords"))
"""Blueprints that look for what an address names by its hash, and tell no link from another."""
HANDED = "portal.handed"
"""Where a request's environment has what was found of it before Flask came to it."""


@dataclass
class Handed:
    """What was found on the way in of an event (portal.api.door): its key, the limit of its
    requests with how many are left, and why it is refused."""

    key: sa.Row[*tuple[Any, ...]] | None = None
    counted: tuple[int, int] | None = None
    error: Exception | None = None


def handed() -> Handed:
    """What was found of this request before Flask came to it; nothing as a rule."""
    found: Handed = request.environ.get(HANDED) or Handed()
    return found


def key_of(authorization: str) -> sa.Row[*tuple[Any, ...]] | None:
    """The key in an Authorization header; None for one that is unknown, revoked or not there."""
    text = key_in(authorization)
    if not text:
        return None
    # A connection for a moment: events wait for their turn without one (portal.events.ingest).
    with one_statement() as connection:
        found = connection.execute(_KEY, {"digest": ApiKey.digest_of(text)}).first()
    courtesy.is_for(courtesy.NOBODYS if found is None else f"merchant {found.merchant_id}")
    return found


def prover(app: Flask) -> Callable[[str], object]:
    """What looks whose the key in an Authorization header is, and says so
    (portal.fairness.courtesy)."""

    def look(authorization: str) -> None:
        with app.app_context():
            key_of(authorization)

    return look


def signed_in(app: Flask) -> Callable[[str], bool]:
    """What says whether the portal has signed the cookie of a session for somebody who signed in,
    be it that the sign-in has ended since: no look into the database."""
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    if serializer is None:
        raise RuntimeError("The application has no secret key.")
    lasts_seconds = int(app.permanent_session_lifetime.total_seconds())

    def is_sign_in(cookie: str) -> bool:
        try:
            said = serializer.loads(cookie, max_age=lasts_seconds)
        except BadSignature:
            return False
        return isinstance(said, dict) and "token" in said

    return is_sign_in


def key_in(authorization: str) -> str:
    """The text of the key in an Authorization header; empty where there is none."""
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def _check_key(allowed: frozenset[str]) -> None:
    before = handed()
    if before.key is None and before.error is not None:
        raise before.error
    authorization = request.headers.get("Authorization", "")
    found = before.key or key_of(authorization)
    if found is None and not key_in(authorization):
        raise Unauthorized("Send the header Authorization: Bearer whp_….")
    if found is None:
        security_log.note("api_key_refused")
        raise Unauthorized("This API key is unknown or revoked.")
    g.key, g.merchant_id = found, found.merchant_id
    g.roles = frozenset({found.scope})
    if not allowed & g.roles:
        raise Forbidden("This needs a key with the scope write; this one may only read.")


def template_context() -> dict[str, Any]:
    """What every template may use."""
    return {
        "may": may,
        "merchant": g.get("merchant"),
        "config_portal": current_app.config["PORTAL"],
    }
