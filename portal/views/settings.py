"""A merchant's settings: API keys, members, how long logs are kept, whether it is active."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_limiter import RequestLimit
from flask_login import current_user

from portal.audit.log import actor_of
from portal.errors import FieldError, Invalid
from portal.people import accounts, invitations, members, periods, storage_bounds
from portal.storage import allowance
from portal.web import rendering
from portal.web.extensions import limiter

bp = Blueprint("settings", __name__, url_prefix="/m/<slug>/settings")

INVITATIONS = "30 per hour"
"""Of a merchant: the portal must not be a way to send mail to strangers."""


def _render(fragment: str | None = None, status: int = 200, **context: Any) -> Response:
    page: dict[str, Any] = {
        "keys": accounts.keys(g.merchant),
        "members": members.members(g.merchant),
        "invitations": [
            (one, invitations.is_open(one)) for one in invitations.invitations(g.merchant)
        ],
        "event_days": periods.event_days(g.merchant),
        "payload_days": periods.payload_days(g.merchant),
        "usage": allowance.of([g.merchant.id])[g.merchant.id],
        "key_errors": {},
        "period_errors": {},
        "storage_errors": {},
        "invite_errors": {},
        "typed": {},
        "new_key": None,
        "new_link": None,
    }
    return rendering.render("settings/index.html", fragment, status, **page | context)


@bp.get("")
def index(slug: str) -> ResponseReturnValue:
    """All settings on one page; who may not change them sees them."""
    return _render()


@bp.post("/retention")
def change_periods(slug: str) -> ResponseReturnValue:
    """Keep the merchant's logs for another number of days."""
    form = request.form
    try:
        periods.change(
            g.merchant,
            form.get("event_days", ""),
            form.get("payload_days", ""),
            actor_of(current_user),
        )
    except Invalid as error:
        return _render(None, 422, period_errors=error.by_field(), typed=form)
    flash("The periods are changed. The clean-up follows them from tonight on.")
    return redirect(url_for("settings.index", slug=slug), 303)


@bp.post("/storage")
def change_storage(slug: str) -> ResponseReturnValue:
    """Let the merchant store another amount."""
    try:
        storage_bounds.change(
            g.merchant, request.form.get("storage_mb", ""), actor_of(current_user)
        )
    except Invalid as error:
        return _render(None, 422, storage_errors=error.by_field(), typed=request.form)
    flash("What the store may store is changed.")
    return redirect(url_for("settings.index", slug=slug) + "#storage", 303)


@bp.app_context_processor
def storage_lately() -> dict[str, Any]:
    """For every page of a merchant: what is stored, as this process knows it."""
    return {"storage_lately": lambda: allowance.lately(g.merchant.id), "in_gb": allowance.amount}


@bp.post("/keys")
def create_key(slug: str) -> ResponseReturnValue:
    """Make a key and show it in the answer to this very request, and never again."""
    name, scope = request.form.get("name", ""), request.form.get("scope", "")
    fragment = "settings/_keys.html"
    try:
        if not name.strip():
            raise Invalid([FieldError("/name", "Name the key after what will use it.")])
        key = accounts.create_key(g.merchant, scope, name, actor_of(current_user))
    except Invalid as error:
        return _render(fragment, 422, key_errors=error.by_field(), typed=request.form)
    return _render(fragment, new_key=key)


@bp.post("/keys/<key_id>/revoke")
def revoke_key(slug: str, key_id: str) -> ResponseReturnValue:
    """End a key at once."""
    accounts.revoke_key(g.merchant, key_id, actor_of(current_user))
    flash("The key is revoked. Requests with it are refused from now on.")
    return redirect(url_for("settings.index", slug=slug), 303)


def _too_many_invitations(_limit: RequestLimit) -> Response:
    message = "This merchant sends many invitations. Wait an hour, then try again."
    return _render(
        "settings/_members.html", 429, invite_errors={"email": [message]}, typed=request.form
    )


@bp.post("/invitations")
@limiter.limit(
    INVITATIONS,
    key_func=lambda: str(g.merchant.id),
    on_breach=_too_many_invitations,
    deduct_when=lambda response: response.status_code == 200,
)
def invite(slug: str) -> ResponseReturnValue:
    """Invite someone and show the link in the answer to this very request, and never again."""
    form = request.form
    fragment = "settings/_members.html"
    try:
        link = invitations.invite(
            g.merchant, form.get("email", ""), form.get("role", ""), actor_of(current_user)
        )
    except Invalid as error:
        return _render(fragment, 422, invite_errors=error.by_field(), typed=form)
    return _render(fragment, new_link=link, typed=form)


@bp.post("/invitations/<invitation_id>/revoke")
def revoke_invitation(slug: str, invitation_id: str) -> ResponseReturnValue:
    """End an invitation at once."""
    invitations.revoke(g.merchant, invitation_id, actor_of(current_user))
    flash("The invitation is revoked. Its link lets nobody in any more.")
    return redirect(url_for("settings.index", slug=slug), 303)


@bp.post("/members/<int(max=2147483647):user_id>")
def change_member(slug: str, user_id: int) -> ResponseReturnValue:
    """Give a member another role."""
    members.change_member(g.merchant, user_id, request.form.get("role", ""), actor_of(current_user))
    flash("The role is changed.")
    return _after_change(slug)


@bp.post("/members/<int(max=2147483647):user_id>/remove")
def remove_member(slug: str, user_id: int) -> ResponseReturnValue:
    """End a membership."""
    members.remove_member(g.merchant, user_id, actor_of(current_user))
    flash("The member is removed.")
    return _after_change(slug)


def _after_change(slug: str) -> ResponseReturnValue:
    # Who removed themselves can no longer see this page.
    stays = current_user.staff_role or current_user.role_at(g.merchant.id)
    target = url_for("settings.index", slug=slug) if stays else url_for("home.root")
    return redirect(target, 303)
