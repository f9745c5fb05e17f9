"""Staff of the platform: merchants, users, what the portal did, who changed what."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal import clock_watch, installed
from portal.audit import log
from portal.audit.log import actor_of
from portal.counts import statistics
from portal.db.listing import clean_search
from portal.errors import FieldError, Invalid, NotFound
from portal.models.user import MEMBER_ROLES, STAFF_ROLES
from portal.people import accounts
from portal.storage import allowance
from portal.upkeep import redis_now, vitals
from portal.views import attempts as attempt_views
from portal.views import events as event_views
from portal.views import log_filters
from portal.web import rendering

bp = Blueprint("staff", __name__, url_prefix="/staff")


# ── Merchants ─────────────────────────────────────────────────────────────────────────────


def _merchants(status: int = 200, **context: Any) -> Response:
    search = request.args.get("search", "")
    found = accounts.merchants(request.args.get("cursor", ""), search)
    shown = [row.id for (row,) in found.rows]
    page = {
        "page": found,
        "counts": statistics.by_merchant(shown),
        "stored": allowance.of(shown),
        "search": search,
        "errors": {},
        "typed": {},
    }
    return rendering.render(
        "staff/merchants.html", "staff/_merchants.html", status, **page | context
    )


@bp.get("/merchants")
def merchants() -> ResponseReturnValue:
    """Every merchant with the state of its feature."""
    return _merchants()


@bp.post("/merchants")
def create_merchant() -> ResponseReturnValue:
    """Add a merchant."""
    form = request.form
    try:
        merchant = accounts.create_merchant(
            form.get("slug", ""),
            form.get("name", ""),
            actor_of(current_user),
            active="active" in form,
        )
    except Invalid as error:
        return _merchants(422, errors=error.by_field(), typed=form)
    flash(f"{merchant.name} is created. Invite its first owner here.")
    return redirect(url_for("settings.index", slug=merchant.slug), 303)


@bp.post("/merchants/<slug>/activate")
def activate(slug: str) -> ResponseReturnValue:
    """Turn a merchant's feature on."""
    accounts.activate(g.merchant, actor_of(current_user))
    flash(f"{g.merchant.name} is active: from its next event on, webhooks are sent.")
    return redirect(url_for("staff.merchants"), 303)


@bp.post("/merchants/<slug>/deactivate")
def deactivate(slug: str) -> ResponseReturnValue:
    """Turn a merchant's feature off."""
    accounts.deactivate(g.merchant, actor_of(current_user))
    flash(f"{g.merchant.name} is inactive: its events are logged, nothing new is sent.")
    return redirect(url_for("staff.merchants"), 303)


# ── Users ─────────────────────────────────────────────────────────────────────────────────


def _users(status: int = 200, **context: Any) -> Response:
    search = request.args.get("search", "")
    page = {
        "page": accounts.users(request.args.get("cursor", ""), search),
        "search": search,
        "errors": {},
        "typed": {},
        "shown_password": None,
        "shown_for": "",
    }
    return rendering.render("staff/users.html", "staff/_users.html", status, **page | context)


@bp.get("/users")
def users() -> ResponseReturnValue:
    """Everyone who signs in."""
    return _users()


@bp.post("/users")
def create_user() -> ResponseReturnValue:
    """Add staff, or a member of a merchant; the password is in the answer to this request."""
    form = request.form
    password = accounts.new_password()
    try:
        user = accounts.create_user(
            form.get("email", ""),
            password,
            actor_of(current_user),
            name=form.get("name", ""),
            **_role(form.get("role", ""), form.get("merchant", "")),
        )
    except Invalid as error:
        return _users(422, errors=error.by_field(), typed=form)
    return _users(shown_password=password, shown_for=user.email)


def _role(role: str, slug: str) -> dict[str, Any]:
    if role in STAFF_ROLES:
        if slug:
            raise Invalid(
                [
                    FieldError(
                        "/merchant",
                        "Staff see every merchant: leave this empty, or choose the role "
                        "viewer, editor or owner.",
                    )
                ]
            )
        return {"staff_role": role}
    if role not in MEMBER_ROLES:
        raise Invalid([FieldError("/role", "Choose a role.")])
    try:
        return {"merchant": accounts.get_merchant(slug.strip()), "role": role}
    except NotFound as error:
        raise Invalid([FieldError("/merchant", error.detail)]) from None


@bp.post("/users/<int(max=2147483647):user_id>/disable")
def disable_user(user_id: int) -> ResponseReturnValue:
    """End an account and its sessions."""
    user = accounts.user_of_id(user_id)
    accounts.disable_user(user, actor_of(current_user))
    flash(f"{user.email} is disabled and signed out everywhere.")
    return redirect(url_for("staff.users"), 303)


@bp.post("/users/<int(max=2147483647):user_id>/enable")
def enable_user(user_id: int) -> ResponseReturnValue:
    """Open a disabled account again."""
    user = accounts.user_of_id(user_id)
    accounts.enable_user(user, actor_of(current_user))
    flash(f"{user.email} may sign in again.")
    return redirect(url_for("staff.users"), 303)


@bp.post("/users/<int(max=2147483647):user_id>/password")
def reset_password(user_id: int) -> ResponseReturnValue:
    """Give a user a generated password, which is in the answer to this request."""
    user = accounts.user_of_id(user_id)
    password = accounts.reset_password(user, actor_of(current_user))
    return _users(shown_password=password, shown_for=user.email)


# ── Logs ──────────────────────────────────────────────────────────────────────────────────


@bp.get("/events")
def events() -> ResponseReturnValue:
    """The event log of all merchants."""
    return event_views.log_page(merchant=None)


@bp.get("/attempts")
def attempts() -> ResponseReturnValue:
    """The attempt log of all merchants."""
    return attempt_views.log_page(merchant=None)


@bp.get("/operations")
def operations() -> ResponseReturnValue:
    """Queues, workers and lanes as they are now, and what the portal did by itself."""
    queues, workers = redis_now.queues_and_workers()
    return rendering.render(
        "staff/operations.html",
        "staff/_now.html",
        queues=queues,
        workers=workers,
        lanes=vitals.lanes_now(),
        backlog=vitals.backlog(),
        cap=vitals.BACKLOG_CAP,
        clean_up=vitals.clean_up_now(),
        clock_doubt=clock_watch.doubt(),
        command=installed.COMMAND,
        start=installed.START,
        page=log.operations(request.args.get("cursor", "")),
    )


@bp.get("/audit", endpoint="audit")
def audit_log() -> ResponseReturnValue:
    """Who changed or revealed what, newest first."""
    errors: dict[str, list[str]] = {}
    page = None
    try:
        page = log.entries(request.args.get("cursor", ""), **log_filters.of_audit_log())
    except Invalid as error:
        errors = error.by_field()
    typed: dict[str, Any] = {
        name: value
        for name in ("merchant", "actor", "action", "since", "until", "zone")
        if (value := clean_search(request.args.get(name, "")))
    }
    return rendering.render(
        "staff/audit.html",
        status=422 if errors else 200,
        typed=typed,
        errors=errors,
        page=page,
        actions=log.actions(),
        url=url_for("staff.audit", **typed),
    )
