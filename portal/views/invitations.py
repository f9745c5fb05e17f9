"""The page of an invitation: who has the link joins, with a new account or the one they have."""

from __future__ import annotations

from flask import Blueprint, Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.errors import Invalid
from portal.people import accounts, invitations
from portal.views.auth import start_session
from portal.web import rendering
from portal.web.extensions import limit_by_sender

bp = Blueprint("invitations", __name__, url_prefix="/invitation")

LOOKS_PER_ADDRESS = "60 per minute"


def _page(token: str, status: int = 200, errors: dict[str, list[str]] | None = None) -> Response:
    invitation = invitations.find(token)
    return rendering.render(
        "invitations/show.html",
        status=status,
        invitation=invitation,
        token=token,
        alone=True,
        has_account=accounts.find_user(invitation.email) is not None,
        errors=errors or {},
        name=request.form.get("name", ""),
    )


@bp.get("/<token>")
@limit_by_sender(LOOKS_PER_ADDRESS)
def show(token: str) -> ResponseReturnValue:
    """Whom the invitation is for, and the way in."""
    return _page(token)


@bp.post("/<token>")
@limit_by_sender(LOOKS_PER_ADDRESS)
def accept(token: str) -> ResponseReturnValue:
    """Join: as who is signed in, else with a new account, which is signed in then."""
    if current_user.is_authenticated:
        merchant = invitations.join(token, current_user)
    else:
        fields = (request.form.get(name, "") for name in ("name", "password", "repeated"))
        try:
            user = invitations.join_anew(token, *fields)
        except Invalid as error:
            return _page(token, 422, error.by_field())
        start_session(user)
        merchant = user.memberships[0].merchant
    flash(f"Welcome to {merchant.name}.")
    return redirect(url_for("home.index", slug=merchant.slug), 303)
