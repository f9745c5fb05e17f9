"""One's own account."""

from __future__ import annotations

from flask import Blueprint, Response, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal import rendering
from portal.errors import Invalid
from portal.extensions import limiter
from portal.people import accounts, notices
from portal.views.auth import start_session

bp = Blueprint("account", __name__, url_prefix="/account")


def _page(status: int = 200, errors: dict[str, list[str]] | None = None) -> Response:
    return rendering.render(
        "account/show.html", status=status, errors=errors or {},
        kinds=notices.KINDS, chosen=notices.chosen(current_user),
    )


@bp.get("")
def show() -> ResponseReturnValue:
    """Who one is, where one is a member, what one is told, and the form for another password."""
    return _page()


@bp.post("/notices/<slug>")
def choose_notices(slug: str) -> ResponseReturnValue:
    """Choose which notices of a merchant come by mail; only for its members."""
    notices.choose(current_user, g.merchant, request.form.getlist("kinds"))
    flash("What you are told by mail is changed.")
    return redirect(url_for("account.show"), 303)


@bp.post("/password")
@limiter.limit(
    "10 per minute", key_func=lambda: str(current_user.get_id()),
    deduct_when=lambda response: response.status_code == 422,
)
def change_password() -> ResponseReturnValue:
    """Take another password; every other session ends, this one is renewed."""
    fields = (request.form.get(name, "") for name in ("current", "password", "repeated"))
    try:
        accounts.change_own_password(current_user, *fields)
    except Invalid as error:
        return _page(422, error.by_field())
    start_session(accounts.get_user(current_user.email))
    flash("Your password is changed. Your sign-ins on other devices have ended.")
    return redirect(url_for("account.show"), 303)
